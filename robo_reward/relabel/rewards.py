"""From labels to what an RL data set holds: a reward and a done a transition."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robo_reward.datasets.labels import EpisodeLabels, LabelHead
from robo_reward.errors import DatasetError
from robo_reward.shaping import DoneGate, Shaper, ShapingConfig
from robo_reward.signals import SIGNALS, Score, Signals


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transitions:
    """Rewards of an episode of n frames.

    Attributes:
        rewards: ``(n,) float32``: entry t belongs to the transition from frame t to frame t + 1.
            The last one has no frame behind it: nothing moves in it, and done stays what it is.
        dones: ``(n,) bool``: whether the gate says done in the state after the transition.
        is_done: ``(n,) bool``: whether it says so in frame t.
    """

    rewards: NDArray[np.float32]
    dones: NDArray[np.bool_]
    is_done: NDArray[np.bool_]


def gate_of(labels: EpisodeLabels, head: LabelHead) -> NDArray[np.bool_]:
    """Return the gate's decision in every labelled frame, ``(n,) bool``."""
    gate = DoneGate(head.gate(labels.instructions[0]))
    return np.array([gate.update(float(p)) for p in labels.signals["done"]], bool)


def transitions(labels: EpisodeLabels, head: LabelHead, shaping: ShapingConfig) -> Transitions:
    """Shape the labels of an episode.

    Raises:
        DatasetError: Frames have no score, or were left out by a stride: neither is made up.
    """
    missing = sum(status != "ok" for status in labels.status)
    if missing:
        raise DatasetError(
            f"episode {labels.id}: {missing} of {len(labels)} frames have no score; a data set for "
            "learning needs all of them (use the table, which says why each is missing)"
        )
    if head.every != 1:
        raise DatasetError(
            f"the labels cover each {head.every}. frame; a data set for learning needs --every 1"
        )
    for name in shaping.needs:
        if name not in head.signals:
            raise DatasetError(f"{head.model} gives no {name}, which this reward is made from")
    is_done = gate_of(labels, head)
    scores = [_score(labels, row) for row in range(len(labels))]
    scores.append(_still(scores[-1]))
    episode = Shaper(shaping).begin(task=labels.instructions[0])
    episode.rebase(scores[0])
    rewards = []
    texts = [*labels.instructions, labels.instructions[-1]]
    for row in range(len(labels)):
        done = bool(is_done[min(row + 1, len(labels) - 1)])
        if texts[row + 1] != texts[row]:
            # Progress towards another goal is no difference: this step gets no dense term.
            episode.rebase(scores[row + 1], task=texts[row + 1])
            terms = episode.between(0.0, done=done)
        else:
            (terms,) = episode.settle([0.0], scores[row + 1], done=done)
        rewards.append(terms.total)
    return Transitions(
        rewards=np.array(rewards, np.float32),
        dones=np.append(is_done[1:], is_done[-1]),
        is_done=is_done,
    )


def _score(labels: EpisodeLabels, row: int) -> Score:
    return Score(signals=Signals(**{name: float(labels.signals[name][row]) for name in SIGNALS}))


def _still(score: Score) -> Score:
    """The last frame seen once more: nothing has moved."""
    signals = replace(score.signals, progress_delta=0.0, contrastive=0.0)
    return replace(score, signals=signals)
