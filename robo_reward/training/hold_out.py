"""What of a few demonstrations is not trained on, and how well a network does on that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robo_reward.errors import DatasetError
from robo_reward.models.compact import encode_text
from robo_reward.models.compact_network import CompactNetwork, expected_progress, normalised

from .episode_batches import Sentences
from .examples import Example
from .negatives import LabelledClip, counterfactual, mismatched

LEAST_EPISODES = 3
"""Demonstrations below which whole ones are too dear to be held out."""
HELD_OUT_SHARE = 0.25
EVERY_FRAME = 4
FALSE_SENTENCES = 8
"""False sentences that the check asks about each clip."""
APART = 0.1
"""Difference of progress from which two frames have an order."""
WORSE = 0.01
"""By how much a part may be worse for the sake of the others."""
BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Examples apart.

    Attributes:
        train: To learn from.
        held_out: To check on.
        how: What was held out, in words.
    """

    train: list[Example]
    held_out: list[Example]
    how: str


def hold_out(examples: Sequence[Example], *, seed: int) -> Split:
    """Hold out a quarter of the episodes, or of the frames where there are fewer than three.

    Successes and failures are split apart, so that both are on either side where there are enough.

    Raises:
        DatasetError: No episode shows how it is done.
    """
    shown = sorted({one.episode for one in examples if not one.failed})
    failed = sorted({one.episode for one in examples if one.failed})
    if not shown:
        raise DatasetError(f"none of {len(failed)} episodes succeeds; adapting needs at least one")
    rng = np.random.default_rng([seed, 17])
    if len(shown) >= LEAST_EPISODES:
        away = {*_some(shown, rng, least=1), *_some(failed, rng, least=0)}
        return Split(
            train=[one for one in examples if one.episode not in away],
            held_out=[one for one in examples if one.episode in away],
            how=f"{len(away)} of {len(shown) + len(failed)} episodes",
        )
    train, held = [], []
    for example in examples:
        places = np.arange(len(example.clip))
        inner = (places % EVERY_FRAME == EVERY_FRAME // 2) & (places < len(places) - 1)
        train.append(example.only(places[~inner]))
        held.append(example.only(places[inner]))
    how = f"every {EVERY_FRAME}th frame of {len(shown) + len(failed)} episodes, and false sentences"
    return Split(train=train, held_out=held, how=how)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """What a network said of one held-out example; ``(T,)`` each."""

    progress: NDArray[np.float32]
    done: NDArray[np.float32]
    false: NDArray[np.float32]
    """``(T, n)`` progress under n false sentences."""


class HeldOutCheck:
    """The figures by which an adaptation is stopped and judged.

    Args:
        examples: Held out, see ``hold_out``.
        seed: Chooses the false sentences.
    """

    def __init__(self, examples: Sequence[Example], *, seed: int) -> None:
        self.examples = examples
        rng = np.random.default_rng([seed, 19])
        texts = {one.clip.instruction for one in examples}
        self._false = [_false_clips(one, Sentences.about(one.clip.instruction, texts), rng)
                       for one in examples]  # fmt: skip

    def __call__(self, network: CompactNetwork, tokenizer: Any) -> dict[str, float]:
        """Return mean errors, the lower the better, and ``total``, the mean of those known.

        ``own_error`` and ``false_error`` are mean absolute errors of progress under the clip's own
        and under false sentences; ``order_error`` is the share of pairs of frames of one clip,
        more than ``APART`` apart, that own progress puts in the wrong order; ``done_error`` is the
        mean |done - truth| over done and over not done frames, each counting one half.
        """
        own, false, done, order = [], [], [], []
        for example, asked, said in zip(
            self.examples, self._false, self.judge(network, tokenizer), strict=True
        ):
            truth = np.stack([clip.progress for clip in asked], 1)
            own.append(np.stack([said.progress, example.clip.progress]))
            false.append(np.stack([said.false.ravel(), truth.ravel()]))
            done.append(np.stack([said.done, example.clip.done]))
            order.append(_misordered(said.progress, example.clip.progress))
        figures = {
            "own_error": _error(*np.concatenate(own, 1)),
            "order_error": float(np.concatenate(order).mean()) if any(map(len, order)) else np.nan,
            "false_error": _error(*np.concatenate(false, 1)),
            "done_error": _done_error(*np.concatenate(done, 1)),
        }
        known = [value for value in figures.values() if np.isfinite(value)]
        return {**figures, "total": float(np.mean(known))}

    def judge(self, network: CompactNetwork, tokenizer: Any) -> list[Judged]:
        """Return what a network says of every example."""
        network.eval()
        limit = network.config.max_tokens
        judged = []
        with torch.inference_mode():
            for example, asked in zip(self.examples, self._false, strict=True):
                texts = [example.clip.instruction, *(clip.instruction for clip in asked)]
                ids = [torch.tensor([encode_text(tokenizer, text, limit)]) for text in texts]
                text = torch.cat([network.text(one) for one in ids])
                parts = [
                    _ask(network, example.images[start : start + BATCH], text)
                    for start in range(0, len(example.images), BATCH)
                ]
                progress, done = (np.concatenate(columns) for columns in zip(*parts, strict=True))
                judged.append(
                    Judged(progress=progress[:, 0], done=done[:, 0], false=progress[:, 1:])
                )
        return judged


def better(new: Mapping[str, float], best: Mapping[str, float], base: Mapping[str, float]) -> bool:
    """Whether weights are to be kept: better on the whole, in no part worse than the base.

    A part that could pay for another would let language be learned at the cost of progress.
    """
    worse = any(new[name] > base[name] + WORSE for name in base)
    return new["total"] < best["total"] and not worse


def _ask(
    network: CompactNetwork, images: NDArray[np.uint8], text: torch.Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    pixels = normalised(torch.from_numpy(np.ascontiguousarray(images)))
    said = network.judge(network.encoder(pixels), text.expand(len(images), -1, -1, -1))
    progress = expected_progress(said.bins)[0].view(len(images), -1).numpy()
    return progress, said.done.sigmoid().mean(1).view(len(images), -1).numpy()


def _false_clips(
    example: Example, sentences: Sentences, rng: np.random.Generator
) -> list[LabelledClip]:
    """Choose false sentences of which the truth is known: half near misses, where there are any."""
    near = [miss for miss in sentences.near if miss.kind in ("object", "opposite")]
    chosen = rng.permutation(len(near))[: FALSE_SENTENCES // 2]
    clips = [counterfactual(example.clip, near[index]) for index in chosen]
    picks = rng.choice(len(sentences.foreign), FALSE_SENTENCES - len(clips), replace=False)
    return clips + [mismatched(example.clip, sentences.foreign[index]) for index in picks]


def _some(names: list[str], rng: np.random.Generator, *, least: int) -> list[str]:
    count = max(round(HELD_OUT_SHARE * len(names)), least)
    return [names[index] for index in rng.permutation(len(names))[:count]]


def _error(said: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Mean |said - truth| where the truth is known; who says NaN is wrong by 1."""
    known = np.isfinite(truth)
    errors = np.abs(said[known] - truth[known])
    return float(np.nan_to_num(errors, nan=1.0).mean()) if len(errors) else float("nan")


def _misordered(said: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 for each pair of frames that is in the wrong order, 1/2 for a tie, 0 for a right one."""
    said = np.nan_to_num(said)
    later, earlier = np.nonzero(truth[:, None] - truth > APART)
    signs: NDArray[np.float64] = np.sign(said[later] - said[earlier]).astype(np.float64)
    return 0.5 - 0.5 * signs


def _done_error(said: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    sides = [truth == 0.0, truth == 1.0]
    known = [_error(said[side], truth[side]) for side in sides if side.any()]
    return float(np.mean(known)) if known else float("nan")
