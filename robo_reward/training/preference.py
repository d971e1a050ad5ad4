"""Training of a preference-learned reward: pairs of frames, a judge, a Bradley–Terry ensemble.

RL-VLM-F (arXiv 2402.03681). The judge says of each pair 1 (the second frame shows more of the task
done), 0 (the first does) or nothing, and pairs without an answer are left out. It is a reward model
that gives ``contrastive``, or the truth of the recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from robo_reward.errors import ConfigError, DatasetError
from robo_reward.frames import Frame
from robo_reward.models.base import RewardModel
from robo_reward.models.frozen_features import FrozenFeatures
from robo_reward.models.heads import Heads, HeadsConfig
from robo_reward.models.preference import NAME
from robo_reward.query import Query
from robo_reward.task import Task

from .classifier import HeadsTrained
from .examples import Example
from .fit_heads import FitConfig, fit_heads
from .head_frames import FramePool, pool, varied_vectors
from .hold_out import HELD_OUT_SHARE

MEMBERS = 3
"""Networks of the ensemble, as published."""
BATCH = 64
Pairs = NDArray[np.int64]
"""``(n, 2)``: indices of two frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceOptions:
    """What is asked, and how the answers are learned.

    Attributes:
        pairs: Pairs that are put to the judge.
        least: Of the truth's difference of progress, or of a judge's ``contrastive``: below it the
            pair has no answer.
        across: Share of the pairs that are drawn from two episodes; a judge other than the truth
            is asked only about two of one sentence.
        fit: How the heads are fitted.
    """

    pairs: int = 1500
    least: float = 0.05
    across: float = 0.5
    fit: FitConfig = field(default_factory=lambda: FitConfig(members=MEMBERS, copies=2))

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing would be learned."""
        if self.pairs < 1:
            raise ConfigError(f"pairs must be >= 1, got {self.pairs}")


def train_preference(
    features: FrozenFeatures,
    examples: Sequence[Example],
    *,
    options: PreferenceOptions,
    judge: RewardModel | None = None,
) -> HeadsTrained:
    """Fit a reward to preferences, and check it on the true order in other episodes.

    Args:
        features: What the networks read.
        examples: Recordings; their truth is used where no judge is given, and for the check.
        options: How many pairs, and how.
        judge: Gives ``contrastive``; ``None`` takes the truth.

    Raises:
        ConfigError: The judge gives no ``contrastive``.
        DatasetError: No pair got an answer.
    """
    if judge is not None and "contrastive" not in judge.capabilities.signals:
        raise ConfigError(f"{judge.model_id} gives no contrastive to label pairs with")
    seed = options.fit.seed
    learned, away, how = _apart(examples, seed=seed)
    # A judge may well know less of other sentences than of the one that was carried out.
    frames = pool(learned, told=features.reads_text and judge is None)
    rng = np.random.default_rng([seed, 31])
    asked = draw_pairs(frames, options.pairs, rng, across=options.across, alike=judge is not None)
    said = true_order(frames, asked) if judge is None else judged_order(judge, frames, asked)
    kept = np.abs(said) >= options.least
    if not kept.any():
        raise DatasetError(f"none of {len(asked)} pairs got an answer; record longer episodes")
    used, places = np.unique(asked[kept], return_inverse=True)
    pairs = torch.from_numpy(places.reshape(-1, 2))
    further = torch.from_numpy((said[kept] > 0).astype(np.float32))
    vectors = varied_vectors(features, frames.at(used), copies=options.fit.copies, seed=seed)
    sizes = HeadsConfig(
        reward_model=NAME,
        features=features.kind,
        width=features.width,
        hidden=options.fit.hidden,
        members=options.fit.members,
    )

    def loss(items: Tensor, outputs: Tensor) -> Tensor:
        rewards = outputs.tanh()
        wanted = further[items][:, None].expand(-1, sizes.members)
        return functional.binary_cross_entropy_with_logits(
            rewards[:, 1] - rewards[:, 0], wanted, reduction="none"
        )

    heads = fit_heads(
        sizes, vectors, pairs, loss, config=options.fit, weights=torch.ones(len(pairs))
    )
    who = "the truth" if judge is None else judge.model_id
    return HeadsTrained(
        heads=heads,
        features=features,
        learned_from=f"{int(kept.sum())} of {len(asked)} pairs of frames that {who} gave an order",
        held_out=how,
        figures={"pairs": float(len(asked)), "skipped": float((~kept).sum()),
                 **_check(heads, features, away, options, seed)},
    )  # fmt: skip


def draw_pairs(
    frames: FramePool, count: int, rng: np.random.Generator, *, across: float, alike: bool
) -> Pairs:
    """Draw pairs of different frames: of one episode, and a share of two.

    Args:
        frames: Where from.
        count: How many at most.
        rng: Source of randomness.
        across: Share of pairs of any two frames.
        alike: Whether both must have one sentence.
    """
    rows = np.arange(len(frames))
    names, texts = np.array(frames.episodes), np.array(frames.texts)
    first = rng.integers(len(frames), size=count)
    pairs = []
    for one in first:
        group = rows if rng.random() < across else rows[names == names[one]]
        if alike:
            group = group[texts[group] == texts[one]]
        other = rng.choice(group)
        if other != one:
            pairs.append((one, other))
    return np.array(pairs, np.int64).reshape(-1, 2)


def true_order(frames: FramePool, pairs: Pairs) -> NDArray[np.float32]:
    """Return how much further the second frames truly are, ``(n,)``; 0 where nobody knows."""
    truth = frames.progress[pairs]
    change: NDArray[np.float32] = np.nan_to_num(truth[:, 1] - truth[:, 0])
    return change


def judged_order(judge: RewardModel, frames: FramePool, pairs: Pairs) -> NDArray[np.float32]:
    """Return a judge's ``contrastive`` of each pair, ``(n,)``; 0 where it gave none."""
    made = {place: Frame.of(frames.images[place]) for place in np.unique(pairs)}
    queries = [
        Query(task=Task(instruction=frames.texts[new]), newest=(made[new],), reference=(made[old],))
        for old, new in pairs
    ]
    parts = [
        judge.score(queries[start : start + BATCH]).contrastive
        for start in range(0, len(queries), BATCH)
    ]
    return np.nan_to_num(np.concatenate(parts)) if parts else np.empty(0, np.float32)


def _apart(examples: Sequence[Example], *, seed: int) -> tuple[list[Example], list[Example], str]:
    """Hold out a quarter of the episodes, failures or not: an order needs no success."""
    names = sorted({one.episode for one in examples})
    count = round(HELD_OUT_SHARE * len(names))
    rng = np.random.default_rng([seed, 17])
    away = {names[place] for place in rng.permutation(len(names))[:count]}
    learned = [one for one in examples if one.episode not in away]
    held = [one for one in examples if one.episode in away]
    return learned, held, f"{count} of {len(names)} episodes"


def _check(
    heads: Heads,
    features: FrozenFeatures,
    examples: Sequence[Example],
    options: PreferenceOptions,
    seed: int,
) -> dict[str, float]:
    """Return the share of held-out pairs with a true order that the reward has in that order."""
    if not examples:
        return {"pair_accuracy": float("nan")}
    frames = pool(examples)
    rng = np.random.default_rng([seed, 37])
    pairs = draw_pairs(frames, options.pairs, rng, across=options.across, alike=False)
    truth = true_order(frames, pairs)
    known = np.abs(truth) >= options.least
    vectors = varied_vectors(features, frames, copies=0, seed=0)[0]
    with torch.inference_mode():
        rewards = heads(vectors).tanh().mean(1).numpy()
    said = rewards[pairs[:, 1]] - rewards[pairs[:, 0]]
    right = (np.sign(said) == np.sign(truth))[known]
    return {"pair_accuracy": float(right.mean()) if len(right) else float("nan")}
