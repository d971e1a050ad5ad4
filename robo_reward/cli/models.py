"""``robo-reward models``: what there is to choose from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import tyro

from robo_reward.errors import ModelNotFound, RoboRewardError, did_you_mean

from .common import Common, Result
from .console import table

MEASURED_FRAMES = 64
MEASURED_SIZE = 96


@dataclass(frozen=True, kw_only=True)
class Models(Common):
    """List the reward models that can be loaded by name, with what they give and what they cost."""

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward models",
        "robo-reward models compact --measure",
        "robo-reward models --json",
    )

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Only this model (a name, a folder or a hub id)."""
    measure: bool = False
    """Time each model on this machine: milliseconds per new frame, batches of 1."""
    device: str = "auto"
    """Where to load: auto, cpu, cuda or mps."""

    def run(self) -> Result:
        """Load each model and ask what it can do; one that does not load says why."""
        from robo_reward.models import known_models

        known = known_models()
        if self.name is None:
            return [self._row(name) for name in sorted(known)]
        if self.name not in known and "/" not in self.name:
            raise ModelNotFound(f"no reward model {self.name!r}; {did_you_mean(self.name, known)}")
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
        from robo_reward.models import load_model

        row: dict[str, Any] = dict.fromkeys(
            ("name", "model", "signals", "parameters", "memory_mb", "licence", "weights", "error")
        )
        row["name"] = name
        if self.measure:
            row["ms_per_frame"] = None
        try:
            model = load_model(name, device=self.device)
        except Exception as error:
            # One broken model, perhaps a third party's, must not hide the others.
            return {**row, "error": f"{type(error).__name__}: {error}"}
        able = model.capabilities
        row.update(
            model=model.model_id,
            signals=list(able.signals),
            parameters=able.parameters,
            memory_mb=able.memory_mb,
            licence=able.licence,
            weights=_where(model),
        )
        if self.measure:
            row["ms_per_frame"] = _measure(model)
        model.close()
        return row


def _where(model: Any) -> str:
    folder = getattr(model, "folder", None)
    return str(folder) if folder else "in the code"


def _measure(model: Any) -> float:
    import numpy as np

    from robo_reward.frames import Frame
    from robo_reward.query import Query
    from robo_reward.task import Task

    task = Task(instruction="put the red cube on the blue pad")
    random = np.random.default_rng(0)
    shape = (MEASURED_FRAMES + 4, MEASURED_SIZE, MEASURED_SIZE, 3)
    frames = [Frame.of(image) for image in random.integers(0, 256, shape, np.uint8)]
    queries = [Query(task=task, newest=(frame,)) for frame in frames]
    for query in queries[:4]:
        model.score([query])
    start = time.perf_counter()
    for query in queries[4:]:
        model.score([query])
    return (time.perf_counter() - start) / MEASURED_FRAMES * 1e3
