"""Reward models by name: one lazy table, and the entry-point group for those of third parties."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from robo_reward.errors import ModelNotFound, did_you_mean
from robo_reward.models.base import RewardModel
from robo_reward.models.calibration import Calibration

GROUP = "robo_reward.models"

BUILT_IN: dict[str, str] = {
    "clip": "robo_reward.models.clip:ClipReward",
    "compact": "robo_reward.models.compact:CompactModel.from_pretrained",
    "constant": "robo_reward.models.baselines:Constant",
    "goal-distance": "robo_reward.models.goal_distance:GoalDistance",
    "goal-embedding": "robo_reward.models.goal_embedding:GoalEmbedding",
    "language-blind": "robo_reward.models.baselines:LanguageBlind",
    "oracle-pixels": "robo_reward.models.oracle_pixels:OraclePixels",
    "random-features": "robo_reward.models.goal_distance:GoalDistance.random",
    "time-counter": "robo_reward.models.baselines:TimeCounter",
}
"""Name → ``module:factory``; nothing is imported until the name is asked for."""

ENDPOINT = "endpoint:"
ENDPOINTS: dict[str, str] = {
    "robovalue": "robo_reward.models.robovalue:RoboValueModel",
}
"""Kind of a server that others run → ``module:factory`` for its address: ``endpoint:KIND:URL``."""


def known_models() -> dict[str, str]:
    """Return name → ``module:factory`` of every model that can be loaded by name."""
    found = {point.name: point.value for point in entry_points(group=GROUP)}
    return {**found, **BUILT_IN}


def load_model(
    name: str,
    *,
    device: str = "auto",
    calibration: Path | str | None = None,
    abstain_above: float | None = None,
    **options: Any,
) -> RewardModel:
    """Load a reward model.

    Args:
        name: Name in the table, a folder with ``config.json``, a hub id, or ``endpoint:KIND:URL``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        calibration: File that ``robo-reward calibrate`` wrote for this model.
        abstain_above: Uncertainty above which there is no score, in [0, 1]; ``None`` takes the
            calibration's limit, and without one every query is scored.
        **options: Passed to the model's factory.

    Raises:
        ModelNotFound: Nothing has this name; the message says what there is.
        DatasetError: The calibration cannot be read.
        ConfigError: The calibration is for another model, or the limit makes no sense.
    """
    fitted = None if calibration is None else Calibration.load(calibration)
    model = _load(name, device=device, **options)
    if fitted is not None:
        model.calibrate(fitted)
    if abstain_above is not None:
        model.limit(abstain_above)
    return model


def _load(name: str, *, device: str, **options: Any) -> RewardModel:
    table = known_models()
    if name in table:
        return _factory(table[name])(device=device, **options)
    if name.startswith(ENDPOINT):
        kind, _, address = name.removeprefix(ENDPOINT).partition(":")
        if kind not in ENDPOINTS:
            raise ModelNotFound(f"no endpoint {kind!r}; {did_you_mean(kind, ENDPOINTS)}")
        return _factory(ENDPOINTS[kind])(address, device=device, **options)
    if Path(name).is_dir() or name.count("/") == 1:
        return _factory(table["compact"])(name, device=device, **options)
    raise ModelNotFound(f"no reward model {name!r}; {did_you_mean(name, table)}")


def _factory(path: str) -> Callable[..., RewardModel]:
    module, _, attribute = path.partition(":")
    target: Any = importlib.import_module(module)
    for part in attribute.split("."):
        target = getattr(target, part)
    factory: Callable[..., RewardModel] = target
    return factory
