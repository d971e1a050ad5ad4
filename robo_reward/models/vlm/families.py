"""How each family of backbones writes a picture into a prompt, and turns one into features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robo_reward.errors import ModelError
from robo_reward.frames import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Conventions of one ``model_type``.

    Attributes:
        image: The token that a chat template writes for a picture. In the prompt it stands once
            for every feature of the picture.
        before: What goes before those copies.
        after: What goes behind them.
        raw_before: What a chat template adds before ``image``, for prompts without one.
        raw_after: The same behind it.
        preprocessing: Options of the image processor: a frame is one picture, never cut up.
        nested: Whether pictures are handed over as one list per sample.
    """

    image: str
    before: str = ""
    after: str = ""
    raw_before: str = ""
    raw_after: str = ""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    nested: bool = False


_QWEN = Family(image="<|image_pad|>", raw_before="<|vision_start|>", raw_after="<|vision_end|>")
_IDEFICS = Family(
    image="<image>",
    before="<fake_token_around_image><global-img>",
    after="<fake_token_around_image>",
    preprocessing={"do_image_splitting": False},
    nested=True,
)
FAMILIES: dict[str, Family] = {
    "qwen2_vl": _QWEN,
    "qwen2_5_vl": _QWEN,
    "qwen3_vl": _QWEN,
    "qwen3_vl_moe": _QWEN,
    "internvl": Family(
        image="<IMG_CONTEXT>",
        before="<img>",
        after="</img>",
        preprocessing={"crop_to_patches": False},
    ),
    "smolvlm": _IDEFICS,
    "idefics3": _IDEFICS,
}
"""``model_type`` → conventions; loaded by ``AutoModelForImageTextToText``."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a vision tower makes of one picture.

    Attributes:
        tokens: ``(n, width)``, one row per image token of the language model.
        deep: Features for its first layers, ``(n, width)`` each (DeepStack); empty for most.
        grid: Patches as (time, height, width), where positions depend on them.
    """

    tokens: Any
    deep: tuple[Any, ...] = ()
    grid: tuple[int, int, int] | None = None


def see(model: Any, processor: Any, images: Sequence[Image], *, family: Family) -> list[Seen]:
    """Run the vision tower alone.

    Args:
        model: A model of ``AutoModelForImageTextToText``.
        processor: Its image processor.
        images: ``(H, W, 3) uint8 RGB`` of any sizes.
        family: Its conventions.

    Raises:
        ModelError: The tower gave another number of pictures.
    """
    import torch

    made = processor(
        images=[[image] for image in images] if family.nested else list(images),
        input_data_format="channels_last",
        return_tensors="pt",
        **family.preprocessing,
    )
    wanted = ("pixel_values", "pixel_attention_mask", "image_grid_thw")
    inputs = {name: made[name].to(model.device) for name in wanted if name in made}
    with torch.inference_mode():
        out = model.model.get_image_features(**inputs, return_dict=True)
    tokens = list(out.pooler_output)
    if len(tokens) != len(images):
        raise ModelError(f"the vision tower gave {len(tokens)} pictures for {len(images)}")
    layers = getattr(out, "deepstack_features", None) or []
    grids = inputs["image_grid_thw"].tolist() if "image_grid_thw" in inputs else None
    return [
        Seen(
            # Clones: a slice would keep the features of the whole batch alive.
            tokens=tokens[index].clone(),
            deep=tuple(layer[index].clone() for layer in layers),
            grid=tuple(grids[index]) if grids is not None else None,
        )
        for index in range(len(images))
    ]
