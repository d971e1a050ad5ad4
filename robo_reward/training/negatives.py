"""Negatives: what else an episode teaches beyond "this is how it is done", each by name.

In time: ``reverse``, ``rewind``, ``undo``, ``cut`` and ``stagnation`` play the frames of a clip in
another order; progress and done go with the frame, so that they fall, stop or end early. In words:
``mismatched`` and ``counterfactual`` ask about the same frames with a sentence that they do not
fulfil. Each takes a labelled clip and gives one, so that they compose: ``cut(reverse(clip))`` is
a clip too. Near misses and failures are not made up but recorded: they come as episodes of their
own, and ``failures`` says how often they are drawn.

A network that judges single frames learns from ``reverse``, ``rewind``, ``undo`` and ``cut`` only
by which frames are seen and paired; from ``stagnation`` that noise is no progress. A model that
looks at a history needs all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from robo_reward.datasets.episode import Episode
from robo_reward.errors import ConfigError, did_you_mean

from .sentences import NearMiss

DONE_FROM = 0.95
"""Progress by time from which a demonstration counts as done: its last frames."""
NOT_DONE_BELOW = 0.7
"""Progress by time below which it is not; between the two nobody knows, and no loss is taken."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledClip:
    """Frames in playing order, a sentence, and how far it is fulfilled in each of them.

    Attributes:
        frames: ``(n,) int64`` indices into the episode; the same one may come again.
        instruction: The sentence.
        progress: ``(n,) float32`` in [0, 1]; NaN where nobody knows.
        done: ``(n,) float32``, 0 or 1; NaN where nobody knows.
    """

    frames: NDArray[np.int64]
    instruction: str
    progress: NDArray[np.float32]
    done: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of frames n."""
        return len(self.frames)

    def at(self, places: NDArray[np.int64]) -> LabelledClip:
        """Return the clip that plays these places of it, in this order."""
        return replace(
            self,
            frames=self.frames[places],
            progress=self.progress[places],
            done=self.done[places],
        )


def whole(episode: Episode) -> LabelledClip:
    """Label the frames of an episode with its own instruction.

    With the truth of a simulator, that is what they get. A success, or a recording of which nobody
    says that it failed, gets the share of its time that is over: 1 less the share that remains. Of
    a failure only that it was never done is known.
    """
    count = len(episode)
    unknown = np.full(count, np.nan, np.float32)
    failed = episode.success is False
    by_time = np.linspace(0.0, 1.0, count, dtype=np.float32) if count > 1 else unknown
    progress = episode.progress if episode.progress is not None else unknown if failed else by_time
    if episode.done is not None:
        done = episode.done.astype(np.float32)
    elif failed:
        done = np.zeros(count, np.float32)
    else:
        done = np.where(progress >= DONE_FROM, 1.0, unknown)
        done = np.where(progress < NOT_DONE_BELOW, 0.0, done)
    return LabelledClip(
        frames=np.arange(count),
        instruction=episode.instruction,
        progress=progress.astype(np.float32),
        done=done.astype(np.float32),
    )


def forward(clip: LabelledClip, rng: np.random.Generator) -> LabelledClip:
    """As it was recorded."""
    return clip


def reverse(clip: LabelledClip, rng: np.random.Generator) -> LabelledClip:
    """From the last frame to the first: progress falls."""
    return clip.at(np.arange(len(clip))[::-1])


def rewind(clip: LabelledClip, rng: np.random.Generator) -> LabelledClip:
    """To a place on the way and back again, as ReWiND has it (arXiv 2505.10911)."""
    last = len(clip) - 1
    turn = int(rng.integers(last // 2, last)) if last > 1 else last
    return _there_and_back(clip, turn, int(rng.integers(0, max(turn, 1))))


def undo(clip: LabelledClip, rng: np.random.Generator) -> LabelledClip:
    """To the end, where the goal holds, and back until it no longer does."""
    last = len(clip) - 1
    return _there_and_back(clip, last, int(rng.integers(0, max(last // 2, 1))))


def cut(clip: LabelledClip, rng: np.random.Generator) -> LabelledClip:
    """A part of it that ends too early: it gets as far as its last frame, and no further."""
    count = len(clip)
    end = int(rng.integers(count // 3, max(count - 1, count // 3 + 1)))
    return clip.at(np.arange(int(rng.integers(0, end // 2 + 1)), end + 1))


def stagnation(clip: LabelledClip, rng: np.random.Generator) -> LabelledClip:
    """One instant all along, frozen or all but frozen: nothing happens, whatever time it takes."""
    place = int(rng.integers(len(clip)))
    jitter = rng.integers(-1, 2, len(clip)) if rng.random() < 0.5 else np.zeros(len(clip), int)
    near = np.clip(place + jitter, 0, len(clip) - 1)
    still = clip.at(np.full(len(clip), place))
    return replace(still, frames=clip.frames[near])


def mismatched(clip: LabelledClip, text: str) -> LabelledClip:
    """Ask about things that are not there: nothing of it is done in any frame."""
    nothing = np.zeros(len(clip), np.float32)
    return replace(clip, instruction=text, progress=nothing, done=nothing)


def counterfactual(clip: LabelledClip, miss: NearMiss) -> LabelledClip:
    """Ask for a near miss of what the clip shows, where no simulator can judge it.

    Another object was not touched: 0. The opposite is undone as far as this is done. Another
    place or verb shares the way there and not the end: not done, and how far nobody knows.
    """
    count = len(clip)
    not_done = np.zeros(count, np.float32)
    if miss.kind == "object":
        return mismatched(clip, miss.text)
    if miss.kind == "opposite":
        # Whether the opposite held at the start, nobody says.
        done = np.where(clip.done == 1.0, 0.0, np.nan).astype(np.float32)
        return replace(clip, instruction=miss.text, progress=1.0 - clip.progress, done=done)
    unknown = np.full(count, np.nan, np.float32)
    return replace(clip, instruction=miss.text, progress=unknown, done=not_done)


def graded(clip: LabelledClip, told: LabelledClip) -> LabelledClip:
    """Ask a counterfactual whose truth ``told`` holds for every frame of the episode."""
    return replace(
        clip,
        instruction=told.instruction,
        progress=told.progress[clip.frames],
        done=told.done[clip.frames],
    )


Negative = Callable[[LabelledClip, np.random.Generator], LabelledClip]
IN_TIME: dict[str, Negative] = {
    "forward": forward,
    "reverse": reverse,
    "rewind": rewind,
    "undo": undo,
    "cut": cut,
    "stagnation": stagnation,
}
IN_WORDS = ("mismatched", "counterfactual")


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativeConfig:
    """How often each is drawn; shares within a group need not sum to 1, and 0 leaves one out.

    Attributes:
        forward: Clips as they were recorded. The first group is what happens in time.
        reverse: Clips played backwards.
        rewind: Clips that go back on the way.
        undo: Clips that reach the goal and leave it.
        cut: Clips that end too early.
        stagnation: Clips in which nothing happens.
        mismatched: Sentences about other things. The second group is what is asked.
        counterfactual: Sentences that nearly fit.
        paraphrase: The clip's own sentence once more, varied.
        failures: Share of clips taken from failures, where some were recorded.
        preference: Share of pairs that are the ends of a worse and a better episode.

    Raises:
        ConfigError: A share is negative, or nothing is left of a group.
    """

    forward: float = 0.5
    reverse: float = 0.05
    rewind: float = 0.1
    undo: float = 0.1
    cut: float = 0.15
    stagnation: float = 0.1
    mismatched: float = 0.25
    counterfactual: float = 0.25
    paraphrase: float = 0.5
    failures: float = 0.3
    preference: float = 0.1

    def __post_init__(self) -> None:
        """Refuse shares that make no sense."""
        wrong = [field.name for field in fields(self) if not 0 <= getattr(self, field.name) <= 1]
        if wrong:
            raise ConfigError(f"shares must be in [0, 1]: {', '.join(wrong)}")
        if not self.forward or not self.paraphrase:
            raise ConfigError("forward and paraphrase are no negatives and must be above 0")

    def without(self, names: Iterable[str]) -> NegativeConfig:
        """Return the recipe with these left out.

        Raises:
            ConfigError: There is no such negative.
        """
        known = [f.name for f in fields(self) if f.name not in ("forward", "paraphrase")]
        chosen = list(names)
        for name in chosen:
            if name not in known:
                raise ConfigError(f"no negative {name!r}; {did_you_mean(name, known)}")
        return replace(self, **dict.fromkeys(chosen, 0.0))

    def draw(self, names: Iterable[str], rng: np.random.Generator) -> str:
        """Return one of these names by their shares."""
        group = list(names)
        shares = np.array([getattr(self, name) for name in group])
        return group[int(rng.choice(len(group), p=shares / shares.sum()))]


def _there_and_back(clip: LabelledClip, turn: int, end: int) -> LabelledClip:
    return clip.at(np.concatenate([np.arange(turn + 1), np.arange(end, turn)[::-1]]))
