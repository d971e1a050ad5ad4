"""RynnValue: seconds that are left until the task is done, read behind a group of tokens.

Idea: behind a frame stand eight query tokens that read the instruction, the frames so far and each
other, and that nobody else reads; their hidden states together go through a head to 256 bins of
time, evenly spaced in symlog from 0 to 512 s (arXiv 2608.09853). The published potential is the
negative remaining time v. Progress is 1 − v/v₀, v₀ the time that was left at the first frame, or
1 − v/``horizon`` where a horizon in seconds is set, which keeps the physical scale.
Weights: Alibaba-DAMO-Academy/RynnValue-4B (or -8B), on Qwen3-VL; Apache-2.0.
Known faults: seconds are those of the training data's pace; ``done`` is not given (published runs
leave that to a person). The head for differences between frames and the written analysis are not
read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from robo_reward.errors import ConfigError
from robo_reward.models.base import Capabilities, ModelCard

from .vlm.heads import read_tensors, residual
from .vlm.options import VlmOptions
from .vlm.passage import Passage, Picture
from .vlm.prompt import Part
from .vlm.readings import Vector, doubt, expectation, softmax
from .vlm.value import Shown, ValueModel

if TYPE_CHECKING:
    from .vlm.backbone import Backbone

VALUE = "<value>"
ENDS = ("min_value", "max_value")


@dataclass(frozen=True, slots=True, kw_only=True)
class RynnValueOptions(VlmOptions):
    """Options of RynnValue.

    Attributes:
        horizon: Remaining seconds at which progress is 0; 0 takes those at the first frame.

    Raises:
        ConfigError: The horizon is negative, or this attention cannot isolate tokens.
    """

    horizon: float = 0.0

    def __post_init__(self) -> None:
        """Hold what the query tokens need."""
        if self.horizon < 0:
            raise ConfigError(f"horizon must be >= 0 seconds, got {self.horizon:g}")
        if self.attention == "flash_attention_2":
            raise ConfigError(
                "rynnvalue isolates tokens, which flash_attention_2 cannot; take sdpa"
            )


class RynnValue(ValueModel):
    """Reads remaining seconds; see ``GenerativeModel`` for the arguments."""

    named = "rynnvalue"
    card = ModelCard(
        capabilities=Capabilities(
            signals=("progress", "progress_delta", "uncertainty"),
            history=7,
            licence="Apache-2.0",
            parameters=5_144_979_456,
        ),
        weights="Alibaba-DAMO-Academy/RynnValue-4B",
    )
    prompts = {"prompt": ("rynnvalue.v1", ("clip", "instruction"), ())}  # noqa: RUF012
    kinds = ("rynn_value_lang",)
    stands_for = {"rynn_value_lang": "qwen3_vl"}  # noqa: RUF012
    Options = RynnValueOptions
    options: RynnValueOptions
    by_answers = False
    backbone: Backbone

    def __init__(self, *, device: str = "auto", **options: Any) -> None:
        super().__init__(device=device, **options)
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        bins = config["value_tokenizer_config"]
        scale = bins.get("support_transform")
        if scale != "symlog":
            raise ConfigError(f"{self.folder}: its bins are {scale}, and only symlog is known")
        low, high = (math.copysign(math.log1p(abs(bins[end])), bins[end]) for end in ENDS)
        self.centres = np.linspace(low, high, int(bins["bins"]))
        self.repeat = int(config.get("value_token_repeat", 1))
        self.activation = str(config["value_head_config"].get("activation", "relu"))
        self.heads = [
            read_tensors(
                self.folder,
                f"value_heads.{number}.proj.",
                model=self.backbone.model,
                what=self.named,
            )
            for number in range(int(config.get("num_value_heads", 1)))
        ]

    def seconds(self, shown: Sequence[tuple[Shown, tuple[Picture, ...]]]) -> tuple[Vector, Vector]:
        """Return what is left at the end of clips, and how unsure that is, ``(n,)`` each."""
        passages = [self._passage(one, clip) for one, clip in shown]
        groups = [states.reshape(-1) for states in self.backbone.read(passages)]
        logits = np.stack(
            [
                [residual(head, group, activation=self.activation) for head in self.heads]
                for group in groups
            ]
        )
        chances = softmax(logits)
        symlog = expectation(chances, self.centres.tolist())
        left = np.sign(symlog) * np.expm1(np.abs(symlog))
        return left.mean(axis=1), doubt(chances).max(axis=1)

    def _judge_clips(self, shown: Sequence[Shown]) -> dict[str, Vector]:
        left, unsure = self.seconds([(one, one.clip) for one in shown])
        if self.options.horizon:
            whole = np.full(len(shown), self.options.horizon)
        else:
            firsts = {one.clip[0].key: (one, one.clip[:1]) for one in shown}
            begun, _ = self.seconds(list(firsts.values()))
            at = dict(zip(firsts, begun, strict=True))
            whole = np.array([at[one.clip[0].key] for one in shown])
        progress = np.clip(1.0 - left / np.maximum(whole, 1e-6), 0.0, 1.0)
        return {"progress": progress, "uncertainty": unsure}

    def _passage(self, one: Shown, clip: Sequence[Picture]) -> Passage:
        """Write the frames, and the query tokens of the last one.

        Those of earlier frames are read by nobody and left out; their places stay empty.
        """
        parts: list[Part] = list(clip)
        (passage,) = self.write([{**one.filling, "clip": parts}])
        starts = list(passage.pictures)
        # What the template writes before a picture belongs to it; what it writes behind the last
        # one (the end of the turn, the head of the answer) does not.
        passage.cut(starts[-1] + len(clip[-1].seen.tokens) + 1)
        for number, start in enumerate(starts[1:], start=1):
            slots = 1 if number == 1 else 2
            passage.skip(start - 1, slots * self.repeat)
        passage.skip(len(passage), self.repeat * (len(clip) > 1))
        token = self.backbone.writer.token(VALUE)
        for _ in range(self.repeat):
            passage.write([token])
            passage.mark()
        passage.bunch = self.repeat
        return passage
