"""``robo-reward bench``: will it keep up with my cameras, at my control rate, on this machine?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from robo_reward.errors import ConfigError

from .common import Common, Result
from .console import table

if TYPE_CHECKING:
    from robo_reward.client import RemoteSource
    from robo_reward.nodes.keep_up import Trial

READY_WITHIN_S = 300.0
CONNECT_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Bench(Common):
    """Ask a reward node at a control rate, and say which stride it keeps up with.

    Starts a node of its own on this machine, or takes the one at --node. Clients ask without
    waiting, as a pipelined wrapper does; the stride is recommended at which 99 of 100 scores are
    there before the next scored step. Exit code 1 where no stride is found.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward bench --rate 15",
        "robo-reward bench --model compact --clients 8 --cameras 2 --rate 30",
        "robo-reward bench --node tcp://gpu:5601 --clients 4 --rate 10 --jpeg 90 --json",
    )

    model: str = "compact"
    """Name, folder or hub id of the reward model; not used with --node."""
    node: str | None = None
    """Ask the reward node at this address instead of starting one."""
    keys: Path | None = None
    """Folder of keys (robo-reward keys), where --node asks for them."""
    device: str = "auto"
    """Where the model of the node runs: auto, cpu, cuda or mps."""
    clients: int = 1
    """Environments or robots that ask at once."""
    cameras: int = 1
    """Cameras of each."""
    rate: float = 10.0
    """Control rate of each, Hz."""
    size: int = 224
    """Side of the frames, pixels."""
    jpeg: int = 0
    """JPEG quality of the frames on the wire; 0 sends them raw."""
    seconds: float = 5.0
    """How long each stride is tried."""

    def run(self) -> Result:
        """Try strides until one keeps up."""
        from robo_reward.nodes.keep_up import TRIALS, Load, find_stride

        if not 0 <= self.jpeg <= 100:
            raise ConfigError(f"--jpeg must be between 0 and 100, got {self.jpeg}")
        load = Load(
            clients=self.clients,
            cameras=self.cameras,
            rate_hz=self.rate,
            seconds=self.seconds,
            side=self.size,
            jpeg_quality=self.jpeg or None,
        )
        bar = self.console().bar("bench", total=TRIALS, unit="trial")
        with self._node() as connect, bar:
            trials = find_stride(
                connect,
                load,
                on_trial=lambda trial: bar.update(note=f"stride {trial.stride}"),
            )
            with connect() as source:
                model = source.info().model
        last = trials[-1]
        return {
            "model": model,
            **asdict(load),
            "keeps_up": last.keeps_up,
            "stride": last.stride if last.keeps_up else None,
            "mode": _mode(last, load.rate_hz) if last.keeps_up else None,
            "p50_ms": 1e3 * last.p50_s,
            "p95_ms": 1e3 * last.p95_s,
            "p99_ms": 1e3 * last.p99_s,
            "failed": 0 if last.keeps_up else 1,
            "trials": [_row(trial) for trial in trials],
        }

    def show(self, result: Result) -> str:
        """Return the trials, and the advice in one line."""
        assert isinstance(result, dict)  # what run returns
        lines = table(result["trials"])
        if not result["keeps_up"]:
            return f"{lines}\n\nIt does not keep up: fewer clients, a smaller model, or a GPU."
        stride, period = result["stride"], 1e3 * result["stride"] / self.rate
        which = "every step" if stride == 1 else f"one step in {stride} (stride={stride})"
        return (
            f"{lines}\n\n{result['model']} keeps up with {which}, mode={result['mode']!r}: "
            f"p99 {result['p99_ms']:.0f} ms of {period:.0f} ms."
        )

    @contextmanager
    def _node(self) -> Iterator[Callable[[], RemoteSource]]:
        """Yield what connects to the node; one that was started here ends with the block."""
        from robo_reward.client import connect
        from robo_reward.nodes.supervised import SupervisedNodes
        from robo_reward.nodes.up import NodeSpec

        if self.node is not None:
            address = self.node
            yield lambda: connect(address, keys=self.keys)
            return
        with tempfile.TemporaryDirectory(prefix="rr-") as folder:
            address = f"ipc://{folder}/node"
            parameters: dict[str, Any] = {
                "model": self.model,
                "device": self.device,
                "bind": address,
            }
            spec = NodeSpec(name="reward", kind="serve", parameters=parameters, max_restarts=0)
            with SupervisedNodes([spec], log=Path(folder) / "log") as nodes:

                def ready() -> bool:
                    with connect(address, connect_timeout_s=CONNECT_S) as source:
                        source.info()
                    return True

                nodes.start(ready, within_s=READY_WITHIN_S)
                yield lambda: connect(address)


def _mode(trial: Trial, rate_hz: float) -> str:
    """Name the mode that keeps the control rate: waiting for a score may cost half a step."""
    return "sync" if trial.p99_s <= 0.5 / rate_hz else "pipelined"


def _row(trial: Trial) -> dict[str, Any]:
    return {
        "stride": trial.stride,
        "asked": trial.asked,
        "answered": trial.answered,
        "in_time": trial.in_time,
        "p50_ms": round(1e3 * trial.p50_s, 2),
        "p95_ms": round(1e3 * trial.p95_s, 2),
        "p99_ms": round(1e3 * trial.p99_s, 2),
        "scores_per_s": round(trial.answers_hz, 1),
        "clock_late_ms": round(1e3 * trial.late_start_s, 2),
        "lost": trial.reasons,
    }
