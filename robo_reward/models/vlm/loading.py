"""Loads a checkpoint: weights, tokenizer, image processor, adapter. A failure says one line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robo_reward.errors import ConfigError, DeviceError, MissingDependency, ModelError, require

from .checkpoint import Checkpoint, fetch
from .options import VlmOptions


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Loaded:
    """Parts of a checkpoint.

    Attributes:
        model: Of ``AutoModelForImageTextToText``, in evaluation mode.
        tokenizer: With a chat template where there is one.
        processor: Image processor, on PIL.
    """

    model: Any
    tokenizer: Any
    processor: Any


def load(
    checkpoint: Checkpoint,
    options: VlmOptions,
    *,
    device: str,
    renamed: Mapping[str, str],
    signs: Sequence[str],
) -> Loaded:
    """Load a checkpoint.

    Args:
        checkpoint: Where it lies.
        options: How it is loaded.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        renamed: Pattern of names in the weight files → names in the backbone.
        signs: Tokens that the weights know and the tokenizer may lack, in the order in which they
            were added.

    Raises:
        MissingDependency: A package is missing.
        DeviceError: There is no such device.
        ModelError: The files are not what they should be, or there is no room for them.
    """
    transformers = require("transformers", extra="vlm")
    require("PIL", extra="vlm")
    damaged = require("safetensors", extra="vlm").SafetensorError
    place = _device(device)
    how = _how(options, place)
    transformers.utils.logging.disable_progress_bar()
    given: dict[str, Any] = {"trust_remote_code": options.trust_remote_code}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.words, **given)
        processor = transformers.AutoImageProcessor.from_pretrained(
            checkpoint.words, backend="pil", **given
        )
        if checkpoint.inner is not None:
            given["config"] = transformers.AutoConfig.for_model(**checkpoint.inner)
        if renamed:
            given["key_mapping"] = dict(renamed)
        model = transformers.AutoModelForImageTextToText.from_pretrained(
            checkpoint.folder, use_safetensors=True, **given, **how
        )
    except (OSError, ValueError, RuntimeError, KeyError, damaged) as error:
        why = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        raise ModelError(f"{checkpoint.name} does not load: {why}") from error
    if not options.bits:
        model = model.to(place)
    if signs:
        tokenizer.add_special_tokens({"additional_special_tokens": _missing(tokenizer, signs)})
    if not tokenizer.chat_template:
        tokenizer.chat_template = _older_template(checkpoint)
    if options.pixels:
        _limit(processor, options.pixels, checkpoint)
    if options.adapter:
        add_adapter(model, options.adapter, name="default", offline=options.offline)
    if options.compile:
        text = getattr(model.model, "language_model", None) or model.model.text_model
        text.compile(dynamic=True)
    return Loaded(model=model.eval(), tokenizer=tokenizer, processor=processor)


def add_adapter(model: Any, adapter: str, *, name: str, offline: bool, sees: bool = True) -> None:
    """Put a PEFT adapter beside a model's weights and switch it on.

    Args:
        model: Of ``AutoModelForImageTextToText``.
        adapter: Folder or hub id.
        name: To choose it by where there are several.
        offline: Whether the hub is never asked.
        sees: Whether it may change the vision tower.

    Raises:
        MissingDependency: peft is not installed, or the adapter is not here.
        ConfigError: It changes the vision tower and must not.
        ModelError: It does not fit.
    """
    require("peft", extra="vlm")
    folder = fetch(adapter, model="adapter", offline=offline)
    if not (folder / "adapter_model.safetensors").is_file():
        raise MissingDependency(f"{adapter} holds no adapter_model.safetensors")
    if not sees and _changes_vision(folder):
        raise ConfigError(
            f"the adapter {adapter} changes the vision tower, which several adapters share here; "
            "merge it into the weights and give that folder as the checkpoint"
        )
    transformers = require("transformers", extra="vlm")
    # It takes the weights of other adapters for missing ones and says so at length.
    loudness = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are several is what is wanted
            model.load_adapter(str(folder), adapter_name=name)
    except (OSError, ValueError, RuntimeError) as error:
        why = str(error).strip().splitlines()[0]
        raise ModelError(f"the adapter {adapter} does not fit: {why}") from error
    finally:
        transformers.utils.logging.set_verbosity(loudness)


def _changes_vision(folder: Path) -> bool:
    safetensors = require("safetensors", extra="vlm")
    with safetensors.safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        return any(".visual." in key or ".vision_" in key for key in file.keys())  # noqa: SIM118


def _device(device: str) -> Any:
    torch = require("torch", extra="vlm")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    here = {"cpu": True, "cuda": torch.cuda.is_available()}
    here["mps"] = torch.backends.mps.is_available()
    kind = device.partition(":")[0]
    if not here.get(kind, False):
        raise DeviceError(f"there is no device {device} here; see robo-reward doctor")
    return torch.device(device)


def _how(options: VlmOptions, place: Any) -> dict[str, Any]:
    torch = require("torch", extra="vlm")
    names = {"auto": "bfloat16" if place.type == "cuda" else "float32"}
    how: dict[str, Any] = {"dtype": getattr(torch, names.get(options.dtype, options.dtype))}
    if options.attention != "auto":
        how["attn_implementation"] = options.attention
    if options.bits:
        if place.type != "cuda":
            raise ConfigError(f"bits={options.bits} needs a GPU; this runs on {place}")
        require("bitsandbytes", extra="vlm")
        transformers = require("transformers", extra="vlm")
        how["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=options.bits == 4,
            load_in_8bit=options.bits == 8,
            bnb_4bit_compute_dtype=how["dtype"],
        )
        how["device_map"] = {"": place}
    return how


def _missing(tokenizer: Any, signs: Sequence[str]) -> list[str]:
    known = tokenizer.get_vocab()
    return [sign for sign in signs if sign not in known]


def _older_template(checkpoint: Checkpoint) -> str | None:
    """Chat template from where checkpoints of 2024 and 2025 have it, beside the processor."""
    try:
        held = json.loads((checkpoint.words / "chat_template.json").read_text(encoding="utf-8"))
        return str(held["chat_template"])
    except (OSError, ValueError, KeyError):
        return None


def _limit(processor: Any, pixels: int, checkpoint: Checkpoint) -> None:
    """Let a frame have at most so many pixels."""
    size = dict(processor.size)
    if "longest_edge" not in size or "shortest_edge" not in size:
        raise ConfigError(f"{checkpoint.name} has pictures of one size; pixels cannot be set")
    least = min(int(size["shortest_edge"]), pixels)
    processor.size = {"shortest_edge": least, "longest_edge": pixels}
