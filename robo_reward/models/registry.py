"""Reward models by name: one lazy table, and the entry-point group for those of third parties."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from robo_reward.errors import ConfigError, ModelNotFound, did_you_mean
from robo_reward.models.base import ModelCard, RewardModel
from robo_reward.models.calibration import Calibration

GROUP = "robo_reward.models"

BUILT_IN: dict[str, str] = {
    "classifier": "robo_reward.models.classifier:Classifier",
    "clip": "robo_reward.models.clip:ClipReward",
    "compact": "robo_reward.models.compact:CompactModel.from_pretrained",
    "composite": "robo_reward.models.composite:Composite.from_spec",
    "constant": "robo_reward.models.baselines:Constant",
    "endpoint": "robo_reward.models.endpoint:EndpointJudge",
    "goal-distance": "robo_reward.models.goal_distance:GoalDistance",
    "goal-embedding": "robo_reward.models.goal_embedding:GoalEmbedding",
    "gvl": "robo_reward.models.gvl:Gvl",
    "language-blind": "robo_reward.models.baselines:LanguageBlind",
    "lrm": "robo_reward.models.lrm:Lrm",
    "oracle-pixels": "robo_reward.models.oracle_pixels:OraclePixels",
    "random-features": "robo_reward.models.goal_distance:GoalDistance.random",
    "rl-vlm-f": "robo_reward.models.preference:PreferenceReward",
    "rl-vlm-f-judge": "robo_reward.models.rl_vlm_f_judge:RlVlmFJudge",
    "robo-dopamine": "robo_reward.models.robo_dopamine:RoboDopamine",
    "robofume": "robo_reward.models.robofume:RoboFume",
    "robometer": "robo_reward.models.robometer:Robometer",
    "roboreward": "robo_reward.models.roboreward:RoboReward",
    "rynnvalue": "robo_reward.models.rynnvalue:RynnValue",
    "sole-r1": "robo_reward.models.sole_r1:SoleR1",
    "time-counter": "robo_reward.models.baselines:TimeCounter",
    "topreward": "robo_reward.models.topreward:TopReward",
    "vla-rl": "robo_reward.models.vla_rl:VlaRl",
    "vlac": "robo_reward.models.vlac:Vlac",
}
"""Name → ``module:factory``; nothing is imported until the name is asked for."""

SPECS = (".yaml", ".yml", ".json")
"""Endings of a file that says what a composite is made of."""
ENDPOINT = "endpoint:"
CHAT = "endpoint:openai:"
"""The model ``endpoint`` in the form of the others."""
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
            A name in the table may bring its options along, see ``read_name``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        calibration: File that ``robo-reward calibrate`` wrote for this model.
        abstain_above: Uncertainty above which there is no score, in [0, 1]; ``None`` takes the
            calibration's limit, and without one every query is scored.
        **options: Passed to the model's factory; they win over those in the name.

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


def read_name(text: str) -> tuple[str, dict[str, str]]:
    """Split what ``--model`` takes into a name and options.

    The form is ``NAME``, ``NAME=CHECKPOINT``, and after either any number of ``,KEY=VALUE``; a
    folder, a hub id and an endpoint stand for themselves. The checkpoint of a generative model may
    be the address of a server, ``NAME=https://host/v1``.

    Raises:
        ConfigError: An option has no value, or stands there twice.

    Example:
        >>> read_name("topreward=Qwen/Qwen3-VL-4B-Instruct,prompt=mine.txt")
        ('topreward', {'checkpoint': 'Qwen/Qwen3-VL-4B-Instruct', 'prompt': 'mine.txt'})
    """
    if text.startswith(CHAT):
        text = f"endpoint={text.removeprefix(CHAT)}"
    if text.startswith(ENDPOINT) or Path(text).is_dir():
        return text, {}
    head, *pairs = text.split(",")
    name, equals, checkpoint = head.partition("=")
    options = {"checkpoint": checkpoint} if equals else {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.replace("-", "_")
        if not equals or not key or key in options:
            raise ConfigError(
                f"model {text!r}: {pair!r} must be KEY=VALUE, each key once; the form is "
                "NAME=CHECKPOINT,KEY=VALUE"
            )
        options[key] = value
    return name, options


def card(name: str) -> ModelCard | None:
    """Return what is known of a model in the table without loading its weights, if anything.

    Raises:
        ImportError: The module that holds it does not import.
    """
    table = known_models()
    if name not in table:
        return None
    module, _, attribute = table[name].partition(":")
    found = getattr(importlib.import_module(module), attribute.partition(".")[0], None)
    told = getattr(found, "card", None)
    return told if isinstance(told, ModelCard) else None


def _load(text: str, *, device: str, **options: Any) -> RewardModel:
    name, written = read_name(text)
    table = known_models()
    if name in table:
        factory = _factory(table[name])
        return factory(device=device, **{**_typed(name, factory, written), **options})
    if name.startswith(ENDPOINT):
        kind, _, address = name.removeprefix(ENDPOINT).partition(":")
        if kind not in ENDPOINTS:
            raise ModelNotFound(f"no endpoint {kind!r}; {did_you_mean(kind, ENDPOINTS)}")
        return _factory(ENDPOINTS[kind])(address, device=device, **options)
    if Path(name).suffix in SPECS and Path(name).is_file():
        return _factory(table["composite"])(name, device=device, **options)
    if Path(name).is_dir() or name.count("/") == 1:
        return _factory(table[_kind(Path(name), table)])(name, device=device, **options)
    raise ModelNotFound(f"no reward model {name!r}; {did_you_mean(name, table)}")


def _kind(folder: Path, table: Mapping[str, str]) -> str:
    """Return the model that reads a folder: what its ``config.json`` says, else the compact one."""
    path = folder / "config.json"
    held = json.loads(path.read_bytes()) if path.is_file() else {}
    said = held.get("reward_model", "compact")
    if said not in table:
        raise ModelNotFound(f"{folder} is of model {said!r}; {did_you_mean(said, table)}")
    return str(said)


def _typed(
    name: str, factory: Callable[..., RewardModel], written: dict[str, str]
) -> dict[str, Any]:
    """Turn options into values of the types that a factory names; ``**options`` get the text."""
    if not written:
        return {}
    known = {
        key: parameter
        for key, parameter in inspect.signature(factory).parameters.items()
        if key != "device"
    }
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values()):
        return dict(written)
    if unknown := sorted(set(written) - set(known)):
        raise ConfigError(f"{name} has no option {unknown[0]}; {did_you_mean(unknown[0], known)}")
    hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    values: dict[str, Any] = {}
    for key, value in written.items():
        try:
            values[key] = msgspec.convert(value, hints[key], strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{name}: {key}={value!r}: {error}") from error
    return values


def _factory(path: str) -> Callable[..., RewardModel]:
    module, _, attribute = path.partition(":")
    target: Any = importlib.import_module(module)
    for part in attribute.split("."):
        target = getattr(target, part)
    factory: Callable[..., RewardModel] = target
    return factory
