"""Training of the success classifier: some labelled frames, a frozen encoder, some heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from robo_reward.errors import DatasetError
from robo_reward.models.classifier import NAME
from robo_reward.models.frozen_features import FrozenFeatures
from robo_reward.models.heads import Heads, HeadsConfig

from .examples import Example
from .fit_heads import FitConfig, fit_heads
from .head_frames import FramePool, pool, varied_vectors
from .hold_out import hold_out

POSITIVE_SHARE = 0.3
"""Share of the labelled frames that show success, where there are enough: one to two or three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierOptions:
    """What is learned from.

    Attributes:
        frames: Labelled frames to train on at most; 0 takes all there are.
        fit: How the heads are fitted.
    """

    frames: int = 200
    fit: FitConfig = field(default_factory=FitConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsTrained:
    """What was made of recordings.

    Attributes:
        heads: The ensemble.
        features: What it reads.
        learned_from: What it was trained on, in words, for the card.
        held_out: What was held out, in words.
        figures: Figures on that.
    """

    heads: Heads
    features: FrozenFeatures
    learned_from: str
    held_out: str
    figures: dict[str, float]

    def save(self, folder: Path) -> None:
        """Write the folder that ``load_model`` reads."""
        self.heads.save(folder)
        self.features.save(folder)


def train_classifier(
    features: FrozenFeatures, examples: Sequence[Example], *, options: ClassifierOptions
) -> HeadsTrained:
    """Fit a classifier on some labelled frames of recordings, and check it on other episodes.

    Args:
        features: What the heads read.
        examples: Recordings with their labels.
        options: How many frames, and how.

    Raises:
        DatasetError: There are no frames of success, or none of anything else.
    """
    seed = options.fit.seed
    split = hold_out(examples, seed=seed)
    learned = pool(split.train, told=features.reads_text)
    checked = pool(split.held_out, told=features.reads_text)
    frames = learned.at(choose(learned.done, options.frames, seed=seed))
    truth = torch.from_numpy(frames.done)
    vectors = varied_vectors(features, frames, copies=options.fit.copies, seed=seed)
    sizes = HeadsConfig(
        reward_model=NAME,
        features=features.kind,
        width=features.width,
        hidden=options.fit.hidden,
        members=options.fit.members,
        instruction=_only(frames.texts),
    )

    def loss(items: Tensor, said: Tensor) -> Tensor:
        wanted = truth[items][:, None].expand(-1, sizes.members)
        return functional.binary_cross_entropy_with_logits(said[:, 0], wanted, reduction="none")

    sides = torch.where(truth > 0.5, 1.0 / truth.sum(), 1.0 / (1.0 - truth).sum())
    heads = fit_heads(
        sizes, vectors, torch.arange(len(frames))[:, None], loss, config=options.fit, weights=sides
    )
    positive = int(frames.done.sum())
    return HeadsTrained(
        heads=heads,
        features=features,
        learned_from=f"{len(frames)} labelled frames of {len(set(frames.episodes))} episodes, "
        f"{positive} of them of success",
        held_out=split.how,
        figures={"frames": float(len(frames)), "positive": float(positive),
                 **check_classifier(heads, features, checked)},
    )  # fmt: skip


def choose(done: NDArray[np.float32], count: int, *, seed: int) -> NDArray[np.int64]:
    """Return which frames are labelled: up to ``count``, about a third of them of success.

    Raises:
        DatasetError: One of the sides is empty.
    """
    sides = [np.flatnonzero(done == 1.0), np.flatnonzero(done == 0.0)]
    if not all(map(len, sides)):
        raise DatasetError(
            f"a classifier needs frames of success and others, got {len(sides[0])} and "
            f"{len(sides[1])}; record both"
        )
    if not count:
        return np.concatenate(sides)
    rng = np.random.default_rng([seed, 29])
    positive = min(len(sides[0]), max(1, round(POSITIVE_SHARE * count)))
    negative = min(len(sides[1]), max(1, count - positive))
    return np.concatenate(
        [rng.permutation(sides[0])[:positive], rng.permutation(sides[1])[:negative]]
    )


def check_classifier(heads: Heads, features: FrozenFeatures, frames: FramePool) -> dict[str, float]:
    """Return figures on frames: accuracy of both sides, and the share of pairs in right order."""
    known = np.flatnonzero(np.isfinite(frames.done))
    frames = frames.at(known)
    vectors = varied_vectors(features, frames, copies=0, seed=0)[0]
    with torch.inference_mode():
        said = heads(vectors).sigmoid().mean(1).numpy()
    yes, no = said[frames.done > 0.5], said[frames.done < 0.5]
    nan = float("nan")
    # The chance that a frame of success stands above one that is none; ties count one half.
    above = 0.5 + 0.5 * np.sign(yes[:, None] - no).mean() if len(yes) and len(no) else nan
    return {
        "recall": float((yes > 0.5).mean()) if len(yes) else nan,
        "specificity": float((no < 0.5).mean()) if len(no) else nan,
        "roc_auc": float(above),
    }


def _only(texts: Sequence[str]) -> str:
    found = set(texts)
    return found.pop() if len(found) == 1 else ""
