"""``robo-reward models``: what there is to choose from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from robo_reward.errors import ModelNotFound, RoboRewardError, did_you_mean

from .common import Common, Result
from .console import table

if TYPE_CHECKING:
    from robo_reward.models import Capabilities

COLUMNS = (
    *("name", "model", "signals", "inputs", "parameters", "memory_mb", "load_s", "ms_per_frame"),
    *("licence", "weights", "error"),
)
MEASURED_FRAMES = 64
MEASURED_SIZE = 96


@dataclass(frozen=True, kw_only=True)
class Models(Common):
    """List the reward models that can be loaded by name, with what they give and what they cost."""

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward models",
        "robo-reward models compact --measure",
        "robo-reward models topreward=Qwen/Qwen3-VL-4B-Instruct --measure",
        "robo-reward models --json",
    )

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Only this model (a name, NAME=CHECKPOINT, a folder or a hub id)."""
    measure: bool = False
    """Time each model on this machine: milliseconds per new frame, one by one.
    Models that are not shipped are measured by NAME only."""
    device: str = "auto"
    """Where to load: auto, cpu, cuda or mps."""

    def run(self) -> Result:
        """Ask each model what it can do; one that does not load says why.

        A model that has a card is loaded only where it is measured by name: its weights may be
        gigabytes that are not here.
        """
        from robo_reward.models import known_models
        from robo_reward.models.registry import read_name

        known = known_models()
        if self.name is None:
            return [self._row(name) for name in sorted(known)]
        name, _ = read_name(self.name)
        if name not in known and "/" not in name:
            raise ModelNotFound(f"no reward model {name!r}; {did_you_mean(name, known)}")
        row = self._row(self.name)
        if row["error"]:
            raise RoboRewardError(f"{self.name} does not load: {row['error']}")
        return row

    def show(self, result: Result) -> str:
        """Return the table without the error column, and the errors below it."""
        rows = result if isinstance(result, list) else [result]
        errors = [f"{row['name']}: {row['error']}" for row in rows if row["error"]]
        shown = [{key: row[key] for key in row if key != "error"} for row in rows]
        return "\n".join([table(shown), *errors])

    def _row(self, name: str) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row["name"] = name
        try:
            # One broken model, perhaps a third party's, must not hide the others.
            row.update(self._told(name))
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}"
        return row

    def _told(self, name: str) -> dict[str, Any]:
        from robo_reward.models import load_model
        from robo_reward.models.registry import card

        told = None if self.measure and self.name else card(name)
        if told is not None:
            return {**_able(told.capabilities), "weights": told.weights}
        start = time.perf_counter()
        model = load_model(name, device=self.device)
        row = {**_able(model.capabilities), "model": model.model_id, "weights": _where(model)}
        row["load_s"] = time.perf_counter() - start
        if self.measure:
            row["ms_per_frame"] = _measure(model)
        model.close()
        return row


def _able(able: Capabilities) -> dict[str, Any]:
    """Return columns; ``None`` for what nobody measured."""
    inputs = [f"{able.max_views} view" + "s" * (able.max_views > 1)]
    frames = "frame" if able.history == 1 else "frames"
    inputs += [f"{able.history} earlier {frames}"] * (able.history > 0)
    inputs += ["goal image"] * able.goal_image + ["demo"] * able.demo
    return {
        "signals": list(able.signals),
        "inputs": inputs,
        "parameters": able.parameters or None,
        "memory_mb": able.memory_mb or None,
        "licence": able.licence,
    }


def _where(model: Any) -> str:
    folder = getattr(model, "folder", None)
    return str(folder) if folder else "in the code"


def _measure(model: Any) -> float:
    import numpy as np

    from robo_reward.models.noise import noise_queries

    queries = noise_queries(
        model, MEASURED_FRAMES + 4, chance=np.random.default_rng(0), size=MEASURED_SIZE
    )
    for query in queries[:4]:
        model.score([query])
    start = time.perf_counter()
    for query in queries[4:]:
        model.score([query])
    return (time.perf_counter() - start) / MEASURED_FRAMES * 1e3
