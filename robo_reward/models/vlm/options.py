"""Settings that every model on a vision-language backbone takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec

from robo_reward.errors import ConfigError, did_you_mean

Count = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class VlmOptions:
    """Which weights, where they run, and how much is asked at once.

    Attributes:
        checkpoint: Folder or hub id; the one the model was published with when empty.
        prompt: File that replaces the model's own prompt; see ``prompt.py`` for its form.
        dtype: Number format of the weights; ``auto``: bfloat16 on a GPU, float32 elsewhere.
        attention: Attention of transformers; ``flash_attention_2`` switches ``reuse`` off.
        compile: Whether the language model goes through ``torch.compile``.
        bits: 8 or 4 loads quantised weights (needs bitsandbytes and a GPU), 0 does not.
        adapter: Folder or hub id of a PEFT adapter.
        trust_remote_code: Whether code that lies beside the weights may run.
        batch: Queries in one forward pass; halved where memory ends.
        reuse: Whether queries share the work on what they have in common.
        clip: Frames of a clip at most, the first and the newest among them.
        pixels: Pixels of a frame at most, larger ones are made smaller; 0 leaves that to the
            checkpoint's own preprocessor.
        think: Words (tokens) that the model may write before its answer is read; 0 asks at once.
        cached_frames: Frames whose vision features are kept.
        offline: Whether the hub is never asked.
    """

    checkpoint: str = ""
    prompt: str = ""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    compile: bool = False
    bits: Literal[0, 4, 8] = 0
    adapter: str = ""
    trust_remote_code: bool = False
    batch: Count = 16
    reuse: bool = True
    clip: Count = 8
    pixels: Annotated[int, msgspec.Meta(ge=0)] = 0
    think: Annotated[int, msgspec.Meta(ge=0)] = 0
    cached_frames: Count = 1024
    offline: bool = False


Options = TypeVar("Options")


def read_options(kind: type[Options], given: Mapping[str, Any], *, model: str) -> Options:
    """Make options of values or of their text.

    Raises:
        ConfigError: There is no such option, or a value makes no sense.
    """
    known = [field.name for field in fields(cast("Any", kind))]
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(f"{model} has no option {unknown[0]}; {did_you_mean(unknown[0], known)}")
    try:
        return msgspec.convert(dict(given), kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{model}: {error}") from error
