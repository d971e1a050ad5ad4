"""The reward node: frames and questions in, scores out, batched over everyone who asks.

    python -m robo_reward.nodes.serve --model compact --bind tcp://127.0.0.1:5601

Threads: the door (sockets and rules; never touches the model), two that decode frames, and the
worker that owns the model; ``serving/`` holds them.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from robo_reward.client import RemoteSource
from robo_reward.errors import ConfigError
from robo_reward.models.base import RewardModel
from robo_reward.transport.sockets import check_address

from .diagnostics import Diagnostic, Level
from .measurements import Histogram, Measurement
from .names import address_of, check_name, resolve
from .node import STALLED_EXIT_CODE, Node, node_main
from .parameters import NodeParameters
from .robovalue import RoboValueConfig, RoboValueServer, Service
from .serving.node import DEFAULT_ADDRESS, RewardNode
from .serving.sessions import Limits

__all__ = ["Limits", "RewardNode", "ServeNode", "ServeParameters", "main"]

SWITCH_S = 0.0005
DRAIN_S = 3.0
HTTP_DRAIN_S = 1.0
LOOK_S = 0.1


@dataclass(frozen=True, kw_only=True)
class ServeParameters(NodeParameters):
    """Settings of a reward node."""

    model: str = "compact"
    """Name of the model, a folder with config.json, or a hub id."""
    calibration: str = ""
    """File of robo-reward calibrate for this model."""
    abstain_above: float | None = None
    """Uncertainty above which there is no score; not given: the calibration's limit, or none."""
    device: str = "auto"
    """Where the model runs: auto, cpu, cuda or mps."""
    bind: str = DEFAULT_ADDRESS
    """Address to bind; the control socket takes the next port."""
    camera: tuple[str, ...] = ()
    """NAME=TOPIC or NAME=ADDRESS of a camera to read, for questions by time; any number."""
    threads: int = 0
    """Threads of a model on the CPU; 0 leaves one core to sockets and decoding."""
    max_batch: int = 32
    """Most questions that go through the model together."""
    load_timeout: float = 600.0
    """How long the model may take to load and warm up, seconds."""
    stall_exit: float = 30.0
    """Leave with code 70 when the model has hung for so long, seconds."""
    peer_sessions: int = 32
    """Clients at once with one key."""
    peer_messages_s: float = 10_000.0
    """Messages per second of one key (or connection, without keys); above it they get BUSY."""
    peer_mb_s: float = 512.0
    """Megabytes per second, likewise."""
    robovalue_bind: str = ""
    """HOST:PORT where RoboValue's query contract (JSON over HTTP) is answered too, if anywhere."""
    robovalue_shot_mode: Literal["zero_shot", "one_shot"] = "zero_shot"
    """Whether the model was prepared with a demonstration of the task."""
    robovalue_token: str = ""
    """File with the bearer token that each of its requests must bring."""
    robovalue_certificate: str = ""
    """PEM file with certificate chain and private key: HTTPS instead of HTTP."""

    def problems(self) -> list[str]:
        """Return everything that is wrong."""
        found = super().problems()
        if self.threads < 0:
            found.append(f"threads must be >= 0, got {self.threads}")
        found += [
            f"{name} must be > 0, got {getattr(self, name):g}"
            for name in ("peer_sessions", "peer_messages_s", "peer_mb_s")
            if getattr(self, name) <= 0
        ]
        if self.max_batch < 1:
            found.append(f"max_batch must be >= 1, got {self.max_batch}")
        try:
            check_address(self.bind)
            for topic in camera_topics(self.camera).values():
                check_address(address_of(resolve(topic)))
            self.robovalue_config()
        except ConfigError as error:
            found.append(str(error))
        return found

    def robovalue_config(self) -> RoboValueConfig | None:
        """Return the settings of the RoboValue service; ``None`` where there is none."""
        if not self.robovalue_bind:
            return None
        return RoboValueConfig(
            bind=self.robovalue_bind,
            token=self.robovalue_token,
            certificate=self.robovalue_certificate,
            insecure_no_auth=self.insecure_no_auth,
        )


class ServeNode(Node):
    """The process around a ``RewardNode``: signals, life cycle, status line, exit code.

    Args:
        parameters: Frozen settings.
    """

    kind = "reward"

    def __init__(self, parameters: ServeParameters) -> None:
        super().__init__(parameters)
        self.parameters = parameters
        self.robovalue: RoboValueServer | None = None
        self._own: RemoteSource | None = None
        self.server = RewardNode(
            self._load,
            address=parameters.bind,
            cameras={
                name: check_address(self.address(topic))
                for name, topic in camera_topics(parameters.camera).items()
            },
            max_batch=parameters.max_batch,
            keys=self.keys,
            insecure_no_auth=parameters.insecure_no_auth,
            limits=Limits(
                peer_sessions=parameters.peer_sessions,
                peer_messages_s=parameters.peer_messages_s,
                peer_bytes_s=parameters.peer_mb_s * 1e6,
            ),
            stall_exit_s=parameters.stall_exit,
            on_stall=give_up,
        )

    def on_configure(self) -> None:
        """Bind at once, so that clients are told to wait; then load the model and warm it up."""
        # A model that holds the interpreter would keep the door waiting for 5 ms at a time.
        sys.setswitchinterval(SWITCH_S)
        if (config := self.parameters.robovalue_config()) is not None:
            self.robovalue = RoboValueServer(config)
        self.server.start()
        self.log.info("binds %s, loading %s", self.server.address, self.parameters.model)
        self.server.wait_ready(timeout_s=self.parameters.load_timeout, stop=self.stopping)

    def on_activate(self) -> None:
        """Say where clients connect."""
        self.log.info("ready at %s", self.server.address)
        if self.robovalue is not None:
            # A client like any other: its questions join the batches and wait their turn.
            self._own = RemoteSource(
                own_address(self.server.address),
                priority="offline",
                keys=None if self.keys is None else self.keys.to_itself(),
            )
            service = Service(self._own, shot_mode=self.parameters.robovalue_shot_mode)
            self.robovalue.start(service)
            self.log.info("RoboValue at %s: %s", self.robovalue.url, service.described())

    def on_step(self) -> None:
        """Wait; the threads of the server work."""
        self.stopping.wait(LOOK_S)

    def on_drain(self) -> None:
        """Answer what is open."""
        if self.robovalue is not None:
            self.robovalue.close(timeout_s=HTTP_DRAIN_S)
        self.server.drain(timeout_s=DRAIN_S)

    def on_cleanup(self) -> None:
        """Free model, sockets and threads."""
        for one in (self.robovalue, self._own):
            if one is not None:
                one.close()
        self.server.close()

    def status_line(self) -> str:
        """Return what was answered, and how fast."""
        stats = self.server.stats()
        batches = max(1.0, stats.get("batches", 0.0))
        return (
            f"{self.name}  {self.state.value}  clients {stats.get('sessions', 0):.0f}  "
            f"scores {stats.get('out_OK', 0):.0f}  waiting {stats.get('open_jobs', 0):.0f}  "
            f"rows/batch {stats.get('rows', 0) / batches:.1f}"
        )

    def diagnostics(self) -> list[Diagnostic]:
        """Return ERROR while the model hangs."""
        if self.server.stalled:
            text = "the model does not come back"
            return [Diagnostic(name="reward: model", level=Level.ERROR, message=text)]
        return []

    def measurements(self) -> Sequence[Measurement | Histogram]:
        """Return what was asked and answered, what waits, and how long things took."""
        return self.server.measurements()

    def _load(self) -> RewardModel:
        from robo_reward.models.registry import load_model

        limit_threads(self.parameters.threads)
        return load_model(
            self.parameters.model,
            device=self.parameters.device,
            calibration=self.parameters.calibration or None,
            abstain_above=self.parameters.abstain_above,
        )


def camera_topics(pairs: Sequence[str]) -> dict[str, str]:
    """Read ``NAME=TOPIC`` and ``NAME=ADDRESS`` pairs.

    Raises:
        ConfigError: One has another form.
    """
    found = {}
    for pair in pairs:
        name, equals, topic = pair.partition("=")
        if not equals:
            raise ConfigError(
                f"camera must be NAME=TOPIC or NAME=ADDRESS, got {pair!r}; for example "
                "front=camera/front/frame or front=tcp://127.0.0.1:5611"
            )
        found[check_name(name, what="camera")] = topic
    return found


def own_address(address: str) -> str:
    """Return where this process reaches what it has bound: an address for all means loopback too.

    Example:
        >>> own_address("tcp://0.0.0.0:5601"), own_address("tcp://10.0.0.6:5601")
        ('tcp://127.0.0.1:5601', 'tcp://10.0.0.6:5601')
    """
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def limit_threads(threads: int = 0) -> None:
    """Bound the threads of numerical libraries that are loaded from now on; the user's word wins.

    Args:
        threads: How many; 0 for one less than there are cores, so that sockets and decoding, which
            feed the model, need not wait for it.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads or max(1, (cores or 1) - 1)))
    # Threads that spin between two small operations keep everything else off their cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def give_up() -> None:
    """End the process at once with code 70: the model hangs and cannot be stopped from inside."""
    logging.getLogger(__name__).critical(
        "the model hangs; leaving with code %d for the supervisor", STALLED_EXIT_CODE
    )
    logging.shutdown()
    os._exit(STALLED_EXIT_CODE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return node_main(ServeParameters, ServeNode, argv)


if __name__ == "__main__":
    sys.exit(main())
