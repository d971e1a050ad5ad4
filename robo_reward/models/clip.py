"""Reward from CLIP or SigLIP: how far a picture has come from a baseline prompt to a goal prompt.

VLM-RM (arXiv 2310.12921), goal–baseline regularisation: with s the embedding of the picture, g that
of the goal prompt, b that of the baseline prompt, all of unit length, and L the line through b and
g,

    r = 1 - ½ ‖α·proj_L(s) + (1 - α)·s - g‖².

α = 0 is the cosine of s and g; α = 1 looks only along L, at what distinguishes the goal from the
baseline. ``progress`` is r between ``low`` and ``high``, clipped into [0, 1]: by default r itself,
which is 1 at the goal and below 0 only where a picture is less alike than a right angle. Published
checkpoints keep r in a narrow band, so fit ``low`` and ``high``, or a calibration, before a
threshold is set. ``progress_delta`` is a difference of progress. Nothing else is given: r says
neither when a task is done nor how sure it is. Licence: that of the checkpoint.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError, ModelNotFound, require
from robo_reward.frames import Image
from robo_reward.models.base import (
    Capabilities,
    Feature,
    Instants,
    ModelCard,
    RewardModel,
    ScoreArrays,
)
from robo_reward.query import Query
from robo_reward.task import Task

CHECKPOINT = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
PROMPT = "a robot that has finished this job: {instruction}"
BASELINE = "a robot that has not begun with its job"
PLACE = "{instruction}"
SIGNALS = ("progress", "progress_delta")
MAX_VIEWS = 4
ENCODE_BATCH = 32
TEXT_CACHE = 1024

Vector = NDArray[np.float32]

_log = logging.getLogger(__name__)


class ClipReward(RewardModel):
    """Goal–baseline reward of any checkpoint with an image and a text tower.

    Args:
        checkpoint: Folder or hub id that ``transformers.AutoModel`` loads as CLIP, SigLIP, ….
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        prompt: What the goal looks like; ``{instruction}`` stands for the sentence of the task.
        baseline: What the scene looks like before anything is done, whatever the task.
        alpha: Strength of the regularisation, [0, 1].
        low: r that counts as progress 0.
        high: r that counts as progress 1.

    Raises:
        ConfigError: A setting makes no sense; all that is wrong is named.
        ModelNotFound: There is no such checkpoint, or it does not embed pictures and sentences.
    """

    card = ModelCard(
        capabilities=Capabilities(
            signals=SIGNALS, max_views=MAX_VIEWS, licence="MIT", parameters=151_277_313
        ),
        weights=CHECKPOINT,
    )

    def __init__(
        self,
        checkpoint: str = CHECKPOINT,
        *,
        device: str = "auto",
        prompt: str = PROMPT,
        baseline: str = BASELINE,
        alpha: float = 0.5,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        _check(prompt=prompt, baseline=baseline, alpha=alpha, low=low, high=high)
        torch = require("torch", extra="vlm")
        from robo_reward.models.backbones import digest, usable_device

        self._torch = torch
        self.device = usable_device(device)
        self.prompt, self.alpha, self.low, self.high = prompt, alpha, low, high
        self._network, self._tokenizer, self._processor = _load(checkpoint)
        self._network.to(self.device)
        self._texts: dict[str, Vector] = {}
        self._baseline = self._text(baseline)
        parameters = sum(p.numel() for p in self._network.parameters())
        settings = f"{alpha!r} {low!r} {high!r}".encode()
        super().__init__(
            name="clip",
            version=digest(self._network, settings),
            capabilities=Capabilities(
                signals=SIGNALS,
                max_views=MAX_VIEWS,
                memory_mb=parameters * 4 / 2**20,
                parameters=parameters,
            ),
            prompt_id=hashlib.blake2b(f"{prompt}\n{baseline}".encode(), digest_size=6).hexdigest(),
        )

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        features: list[Feature] = []
        for start in range(0, len(images), ENCODE_BATCH):
            part = list(images[start : start + ENCODE_BATCH])
            inputs = self._processor(images=part, return_tensors="pt").to(self.device)
            with self._torch.inference_mode():
                seen = self._network.get_image_features(**inputs)
            features.extend(_unit(seen))
        return features

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[Instants],
    ) -> ScoreArrays:
        progress = np.empty(len(queries), np.float32)
        before = np.empty(len(queries), np.float32)
        for row, query in enumerate(queries):
            goal = self._text(self.prompt.replace(PLACE, query.task.text))
            progress[row] = self._progress(newest[row], goal)
            before[row] = self._progress(reference[row], goal) if reference[row] else progress[row]
        none = np.full(len(queries), np.nan, np.float32)
        return ScoreArrays(
            progress=progress,
            progress_delta=progress - before,
            done=none,
            contrastive=none,
            uncertainty=none,
        )

    def _progress(self, views: tuple[Feature, ...], goal: Vector) -> float:
        """Mean over the cameras."""
        reward = projected_reward(np.stack(views), goal, self._baseline, alpha=self.alpha)
        return float(np.clip((reward - self.low) / (self.high - self.low), 0.0, 1.0).mean())

    def _text(self, text: str) -> Vector:
        known = self._texts.get(text)
        if known is None:
            if len(self._texts) >= TEXT_CACHE:
                self._texts.clear()
            known = self._texts[text] = self._embed(text)
        return known

    def _embed(self, text: str) -> Vector:
        config = self._network.config
        limit = config.text_config.max_position_embeddings
        if len(self._tokenizer(text)["input_ids"]) > limit:
            _log.warning("only the first %d tokens are read of %r", limit, text)
        inputs = self._tokenizer(
            [text],
            # SigLIP was trained on sentences of one length.
            padding="max_length" if config.model_type.startswith("siglip") else False,
            truncation=True,
            max_length=limit,
            return_tensors="pt",
        ).to(self.device)
        inputs.pop("token_type_ids", None)
        with self._torch.inference_mode():
            read = self._network.get_text_features(**inputs)
        return _unit(read)[0]


def projected_reward(states: Vector, goal: Vector, baseline: Vector, *, alpha: float) -> Vector:
    """Return r of the top of this module.

    Args:
        states: ``(n, D) float32``, rows of unit length.
        goal: ``(D,)`` of unit length.
        baseline: ``(D,)`` of unit length.
        alpha: [0, 1].

    Returns:
        ``(n,) float32``, at most 1. Where goal and baseline are the same there is no line, and α
        counts as 0.
    """
    along = goal - baseline
    length = float(along @ along)
    if length < 1e-12:
        projected, alpha = states, 0.0
    else:
        projected = baseline + ((states - baseline) @ along / length)[:, None] * along
    rest = alpha * projected + (1.0 - alpha) * states - goal
    reward: Vector = (1.0 - 0.5 * (rest**2).sum(-1)).astype(np.float32)
    return reward


def _check(*, prompt: str, baseline: str, alpha: float, low: float, high: float) -> None:
    problems = []
    if PLACE not in prompt:
        problems.append(f"the goal prompt must hold {PLACE}, got {prompt!r}")
    if not baseline.strip():
        problems.append("the baseline prompt is empty")
    if not 0.0 <= alpha <= 1.0:
        problems.append(f"alpha must be in [0, 1], got {alpha:g}")
    if not low < high:
        problems.append(f"low must be below high, got {low:g} and {high:g}")
    if problems:
        raise ConfigError("; ".join(problems))


def _load(checkpoint: str) -> tuple[Any, Any, Any]:
    """Return network, tokenizer and image processor of a checkpoint."""
    transformers = require("transformers", extra="vlm")
    try:
        network = transformers.AutoModel.from_pretrained(checkpoint).float().eval()
        if not hasattr(network, "get_text_features") or not hasattr(network, "get_image_features"):
            kind = network.config.model_type
            raise ModelNotFound(
                f"{checkpoint!r} is a {kind} model; clip takes one that embeds pictures and "
                "sentences, such as CLIP or SigLIP"
            )
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
        # The one that needs no torchvision.
        processor = transformers.AutoImageProcessor.from_pretrained(checkpoint, backend="pil")
    except (OSError, ValueError) as error:
        if isinstance(error, ModelNotFound):
            raise
        raise ModelNotFound(
            f"no checkpoint {checkpoint!r} for clip: {str(error).splitlines()[0]}"
        ) from error
    return network, tokenizer, processor


def _unit(found: Any) -> list[Vector]:
    """Rows of unit length; newer versions of transformers return an output, older a tensor."""
    tensor = getattr(found, "pooler_output", found).float()
    rows: Vector = (tensor / tensor.norm(dim=-1, keepdim=True)).cpu().numpy()
    return list(rows)
