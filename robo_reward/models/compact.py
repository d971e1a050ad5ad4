"""The compact reward model: all five signals from one encoding per frame, on a CPU.

Idea: ``compact_network``. Trained from scratch on the table-top suite by ``robo-reward
train-reward``. Progress is the mean of an ensemble's mixture over bins; uncertainty is that
mixture's standard deviation over the greatest there is (a uniform one has 0.58 of it), raised
towards 1 where a frame looks like nothing that was trained on (``density``). Delta is a difference
of progress, so that the sum over an episode telescopes; contrastive comes from a pairwise head that
is antisymmetric by construction. With several cameras progress is the mean, done the minimum,
uncertainty the maximum.
Licence of code and weights: Apache-2.0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robo_reward.assets import ROOT
from robo_reward.errors import MissingDependency, ModelError, ModelNotFound, require
from robo_reward.frames import Frame, Image
from robo_reward.models.base import Capabilities, Feature, RewardModel, ScoreArrays
from robo_reward.query import Query
from robo_reward.task import Task

SHIPPED = ROOT / "compact"
WIDEST_STD = 0.5
"""Greatest standard deviation of a distribution over [0, 1]: half at 0, half at 1."""
TEXT_CACHE = 1024
ENCODE_BATCH = 64
"""Frames encoded at once at most: bounds memory, costs no speed beyond this on a CPU."""


class Seen(NamedTuple):
    """What is kept of one frame.

    Attributes:
        map: ``(C, s, s) float16`` features.
        strangeness: See ``density``; 0 for a model without one.
    """

    map: Any
    strangeness: float


class CompactModel(RewardModel):
    """The shipped model, or one of the same kind trained elsewhere.

    Args:
        folder: Holds ``config.json``, ``model.safetensors`` and ``tokenizer.json``, and, where
            strange frames shall be known for such, ``density.safetensors``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        cache_frames: How many encoded frames are kept (18 KB each).
    """

    def __init__(self, folder: Path, *, device: str = "auto", cache_frames: int = 8192) -> None:
        torch = require("torch", extra="train")
        tokenizers = require("tokenizers", extra="train")
        require("huggingface_hub", extra="train")
        from robo_reward.models import density
        from robo_reward.models.backbones import usable_device
        from robo_reward.models.compact_network import CompactNetwork

        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise MissingDependency(
                f"{folder} holds no model.safetensors; train one with `robo-reward train-reward`"
            )
        self._torch = torch
        self.folder = folder
        self.device = usable_device(device)
        damaged = require("safetensors", extra="train").SafetensorError
        try:
            network = CompactNetwork.from_pretrained(str(folder))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, damaged) as error:
            why = " ".join(str(error).split())[:200]
            raise ModelError(f"{folder} does not load: {type(error).__name__}: {why}") from error
        self.network = network.float().eval().to(self.device)
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._texts: dict[str, object] = {}
        parameters = sum(p.numel() for p in self.network.parameters())
        known = density.Density.load(folder)
        self.density = None if known is None else known.to(self.device)
        said_by = [weights] if known is None else [weights, folder / density.FILE]
        content = b"".join(path.read_bytes() for path in said_by)
        version = hashlib.blake2b(content, digest_size=6).hexdigest()
        prompt = hashlib.blake2b((folder / "tokenizer.json").read_bytes(), digest_size=6)
        super().__init__(
            name="compact",
            version=version,
            capabilities=Capabilities(
                max_views=4,
                licence="Apache-2.0",
                memory_mb=parameters * 4 / 2**20,
                parameters=parameters,
            ),
            prompt_id=prompt.hexdigest(),
            cache_frames=cache_frames,
        )

    @classmethod
    def from_pretrained(
        cls, name: str | Path | None = None, *, device: str = "auto"
    ) -> CompactModel:
        """Load from a folder or a hub id; the shipped weights when nothing is named.

        Raises:
            ModelNotFound: Neither a folder nor a hub id that can be reached.
            ModelError: The files are not what they should be.
        """
        if name is None:
            return cls(SHIPPED, device=device)
        if Path(name).is_dir():
            return cls(Path(name), device=device)
        hub = require("huggingface_hub", extra="train")
        try:
            return cls(Path(hub.snapshot_download(str(name))), device=device)
        except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
            raise ModelNotFound(
                f"{name!r} is neither a folder nor a model that the hub gave: {error}"
            ) from error

    def visual_features(self, frames: Iterable[Frame], task: Task) -> NDArray[np.float32]:
        """Frozen features for a policy: where target, place and gripper of a task are seen.

        The three pointers of the network as image coordinates in [-1, 1], (column, row) each; such
        spatial features hold position, which pooled maps lose (Levine et al. 2016). A frame that
        is scored too is encoded once.

        Args:
            frames: Of any camera and size.
            task: What the pointers are asked about.

        Returns:
            ``(n, 6) float32``.
        """
        torch = self._torch
        with torch.inference_mode():
            maps = torch.stack([seen.map for seen in self.encode(frames)]).float()
            where = self.network.where(maps, self.said(task.instruction)).flatten(1)
        features: NDArray[np.float32] = where.cpu().numpy()
        return features

    def _pixels(self, images: Sequence[Image]) -> Any:
        from robo_reward.models.compact_network import prepared

        return prepared(images, self.network.config.image_size, device=self.device)

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        features: list[Feature] = []
        with self._torch.inference_mode():
            for start in range(0, len(images), ENCODE_BATCH):
                maps = self.network.encoder(self._pixels(images[start : start + ENCODE_BATCH]))
                strange = self._strangeness(maps)
                features.extend(map(Seen, maps.half().unbind(0), strange))
        return features

    def _strangeness(self, maps: Any) -> list[float]:
        if self.density is None:
            return [0.0] * len(maps)
        known: list[float] = self.density.strangeness(maps).tolist()
        return known

    def said(self, text: str) -> Any:
        """Return what the network makes of a sentence, ``(4, text_width)``; kept for the next."""
        known = self._texts.get(text)
        if known is None:
            if len(self._texts) >= TEXT_CACHE:
                self._texts.clear()
            tokens = self._torch.tensor(
                [encode_text(self.tokenizer, text, self.network.config.max_tokens)]
            )
            known = self._texts[text] = self.network.text(tokens.to(self.device))[0]
        return known

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[tuple[tuple[Feature, ...], ...]],
    ) -> ScoreArrays:
        torch = self._torch
        from robo_reward.models.compact_network import expected_progress

        # A frame is judged once for a task, whoever asks: as newest here, as reference there. So
        # nothing happened is a difference of exactly zero.
        rows: dict[tuple[int, str], int] = {}
        maps: list[Feature] = []
        texts: list[str] = []

        def row(feature: Feature, text: str) -> int:
            if (id(feature), text) not in rows:
                rows[id(feature), text] = len(rows)
                maps.append(feature.map)
                texts.append(text)
            return rows[id(feature), text]

        owners, now, then, strange = [], [], [], []
        for index, (query, views) in enumerate(zip(queries, newest, strict=True)):
            before = reference[index] or views
            for place, view in enumerate(views):
                owners.append(index)
                now.append(row(view, query.task.text))
                old = before[min(place, len(before) - 1)]
                then.append(row(old, query.task.text))
                # A delta against a frame that nobody could read is worth as little.
                strange.append(max(view.strangeness, old.strangeness))
        with torch.inference_mode():
            text = torch.stack([self.said(one) for one in texts])[:, None]
            judged = self.network.judge(torch.stack(maps).float(), text)
            progress, spread = expected_progress(judged.bins)
            done = judged.done.sigmoid().mean(1)
            order = self.network.order_logit(judged.joint[now], judged.joint[then])
            delta = progress[now] - progress[then]
            columns = [progress[now], delta, done[now], torch.tanh(order / 2), spread[now]]
            table = torch.stack(columns, 1).cpu().numpy()
        spread = np.minimum(table[:, 4] / WIDEST_STD, 1.0)
        table[:, 4] = spread + (1.0 - spread) * np.array(strange, np.float32)
        return _fold(table, owners, len(queries))


def encode_text(tokenizer: object, text: str, max_tokens: int) -> list[int]:
    """Return token ids of an instruction, lower-cased, cut at ``max_tokens``; never empty."""
    ids: list[int] = tokenizer.encode(text.lower()).ids[:max_tokens]  # type: ignore[attr-defined]
    return ids or [1]


def _fold(table: NDArray[np.float32], owners: list[int], count: int) -> ScoreArrays:
    """Join the views of each query: mean of progress, delta and order, least done, most unsure."""
    rows = np.empty((count, 5), np.float32)
    owner = np.array(owners)
    for index in range(count):
        mine = table[owner == index]
        rows[index] = mine.mean(0)
        rows[index, 2] = mine[:, 2].min()
        rows[index, 4] = mine[:, 4].max()
    return ScoreArrays(
        progress=rows[:, 0],
        progress_delta=rows[:, 1],
        done=rows[:, 2],
        contrastive=rows[:, 3],
        uncertainty=rows[:, 4],
    )


def fit_square(image: Image, size: int) -> Image:
    """Cut the largest centred square and resample it by area averages or bilinearly."""
    height, width, _ = image.shape
    if (height, width) == (size, size):
        return image
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    pil = require("PIL.Image", extra="train")
    resized: Image = np.asarray(pil.fromarray(square).resize((size, size), pil.Resampling.BOX
        if side > size else pil.Resampling.BILINEAR))  # fmt: skip
    return resized
