"""Sanity clips: recordings of successes changed so that a sound model must answer in a known way.

Each clip is a transform of an episode with an expectation that can fail, fixed before any model was
asked. A figure is the mean over the episodes that the clip could be made from, so that one odd
scene decides nothing. Where the goal holds in no frame of a clip, the done gate must also stay
closed in at least nine clips of ten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robo_reward.datasets.clips import episode_views
from robo_reward.datasets.episode import Episode
from robo_reward.shaping.outcome import fire_frame

from .metrics import mean_finite
from .ranks import spearman
from .scoring import Asker, false_instructions, never_true, other_task, paraphrases

RISE = 0.3
"""Successes whose true progress rises by less than this are not used: nothing is to be seen."""
MAX_OPENED = 0.1
"""Largest share of clips without the goal on which the gate may open."""
COVER = 0.3
"""Side of the square of the occluded clip, as a share of the image's: a tenth of the picture. It
hides what matters in a few clips, as a passing hand does, and must not matter in most."""

Floats = NDArray[np.floating[Any]]
Random = np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """What is shown and asked instead of the recording.

    Attributes:
        order: ``(n,) int`` frames of the recording, in playing order.
        instruction: What is asked.
        paint: From a picture ``(H, W, 3)`` to the one that is shown; ``None`` leaves it.
        never: Whether the goal of the instruction holds in no frame of the clip.
    """

    order: NDArray[np.int64]
    instruction: str
    paint: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    never: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SanityClip:
    """A named transform and what must come of it.

    Attributes:
        name: Key in JSON.
        words: What is shown, for the report.
        expectation: What must hold, for the report.
        limit: Bound of the figure.
        at_least: Whether the figure must reach the limit; else it must stay below or at it.
        make: From an episode to the clip, ``None`` where its truth does not allow one.
        measure: From (progress as recorded ``(T,)``, progress on the clip ``(n,)``, ``order``) to
            the figure of one episode.
    """

    name: str
    words: str
    expectation: str
    limit: float
    at_least: bool
    make: Callable[[Episode, Random], Clip | None]
    measure: Callable[[Floats, Floats, NDArray[np.int64]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipResult:
    """How a model answered one kind of clip.

    Attributes:
        value: Mean figure; NaN where no clip could be made.
        changed: Mean |progress - that of the same frame as recorded|: what the change did.
        trend: Mean Spearman of progress with time as played; 0 where it stands still.
        limit: Bound of the figure.
        at_least: Whether it is a lower bound.
        episodes: Clips that were asked.
        opened: Share of the clips without the goal on which the gate opened; NaN without any.
    """

    value: float
    changed: float
    trend: float
    limit: float
    at_least: bool
    episodes: int
    opened: float

    @property
    def holds(self) -> bool | None:
        """Whether the expectation is met; ``None`` where nothing could be asked."""
        if math.isnan(self.value):
            return None
        inside = self.value >= self.limit if self.at_least else self.value <= self.limit
        return inside and not self.opened > MAX_OPENED

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "value": self.value,
            "changed": self.changed,
            "trend": self.trend,
            "limit": self.limit,
            "at_least": self.at_least,
            "holds": self.holds,
            "episodes": self.episodes,
            "gate_opened": self.opened,
        }


def usable(episode: Episode) -> bool:
    """Whether sanity clips can be made: a success of at least four frames that truly rises."""
    if not episode.success or len(episode) < 4:
        return False
    truth = episode.progress
    return truth is None or float(truth[-1] - truth[0]) >= RISE


class SanityRun:
    """The clips of one model, episode by episode.

    Args:
        asker: The model; its queries are counted with all the others.
        limit: How many episodes to use.
        seed: Seed of whatever a transform draws.
    """

    def __init__(self, asker: Asker, *, limit: int, seed: int = 0) -> None:
        self._asker = asker
        self._limit = limit
        self._seed = seed
        self._used = 0
        self._answers: dict[str, list[_Answer]] = {clip.name: [] for clip in CLIPS}

    def add(self, episode: Episode, recorded: Floats, *, number: int) -> None:
        """Ask about every clip of an episode, unless there are enough or it is no use.

        Args:
            episode: The recording.
            recorded: ``(T,)`` progress of the model on it as it is.
            number: Index of the episode, which makes the episode numbers of its clips unique.
        """
        if self._used >= self._limit or not usable(episode):
            return
        self._used += 1
        for index, sanity in enumerate(CLIPS):
            clip = sanity.make(episode, np.random.default_rng([self._seed, number, index]))
            if clip is not None:
                self._ask(sanity, clip, episode, recorded, clip_number=100 * number + 80 + index)

    def _ask(
        self,
        sanity: SanityClip,
        clip: Clip,
        episode: Episode,
        recorded: Floats,
        *,
        clip_number: int,
    ) -> None:
        views = episode_views(
            _shown(episode, clip), self._asker.options.cameras, limit=self._asker.max_views
        )
        task = self._asker.task(episode, clip.instruction)
        said = self._asker.ask(self._asker.play(views, task, clip=clip_number))
        opened = math.nan
        if clip.never and np.isfinite(said.done).any():
            gate = self._asker.gate(clip.instruction)
            opened = float(fire_frame(said.done, gate=gate) is not None)
        answer = _Answer(
            value=sanity.measure(recorded, said.progress, clip.order),
            changed=mean_finite(np.abs(said.progress - recorded[clip.order])),
            trend=spearman(said.progress, np.arange(len(said))),
            opened=opened,
        )
        self._answers[sanity.name].append(answer)

    def finish(self) -> dict[str, ClipResult]:
        """Return name → result, in the order of ``CLIPS``; empty where no episode was used."""
        if not self._used:
            return {}
        return {clip.name: _result(clip, self._answers[clip.name]) for clip in CLIPS}


class _Answer(NamedTuple):
    value: float
    changed: float
    trend: float
    opened: float


def _result(clip: SanityClip, answers: list[_Answer]) -> ClipResult:
    def mean(name: str) -> float:
        return mean_finite([getattr(answer, name) for answer in answers])

    return ClipResult(
        value=mean("value"),
        changed=mean("changed"),
        trend=mean("trend"),
        limit=clip.limit,
        at_least=clip.at_least,
        episodes=len(answers),
        opened=mean("opened"),
    )


def _shown(episode: Episode, clip: Clip) -> Episode:
    def painted(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        played = images[clip.order]
        return played if clip.paint is None else np.stack([clip.paint(image) for image in played])

    return replace(
        episode,
        images={name: painted(images) for name, images in episode.images.items()},
        progress=None,
        done=None,
        actions=None,
    )


def _as_it_is(episode: Episode) -> NDArray[np.int64]:
    return np.arange(len(episode))


def _recorded(episode: Episode, rng: Random) -> Clip:
    return Clip(order=_as_it_is(episode), instruction=episode.instruction)


def _reversed(episode: Episode, rng: Random) -> Clip:
    return Clip(order=_as_it_is(episode)[::-1], instruction=episode.instruction)


def _frozen(episode: Episode, rng: Random) -> Clip:
    never = episode.done is not None and not episode.done[0]
    order = np.zeros(len(episode), np.int64)
    return Clip(order=order, instruction=episode.instruction, never=never)


def _looped(episode: Episode, rng: Random) -> Clip:
    half = _as_it_is(episode)[: len(episode) // 2]
    return Clip(order=np.tile(half, 2), instruction=episode.instruction)


def _shuffled(episode: Episode, rng: Random) -> Clip:
    return Clip(order=rng.permutation(len(episode)), instruction=episode.instruction)


def _wrong_instruction(episode: Episode, rng: Random) -> Clip | None:
    false, never = false_instructions(episode), never_true(episode)
    # One that is false throughout, where there is one: the gate is judged then as well.
    chosen = [text for text in false if text in never] or list(false)
    if not chosen:
        return None
    text = chosen[int(rng.integers(len(chosen)))]
    return Clip(order=_as_it_is(episode), instruction=text, never=text in never)


def _other_scene(episode: Episode, rng: Random) -> Clip | None:
    text = other_task(episode, str(episode.meta.get("family")))
    if text is None:
        return None
    return Clip(order=_as_it_is(episode), instruction=text, never=True)


def _paraphrased(episode: Episode, rng: Random) -> Clip | None:
    texts = paraphrases(episode, "grammar")
    if not texts:
        return None
    return Clip(order=_as_it_is(episode), instruction=texts[int(rng.integers(len(texts)))])


def _occluded(episode: Episode, rng: Random) -> Clip:
    top, left = rng.uniform(0.0, 1.0 - COVER, 2)
    shade = int(rng.integers(60, 196))

    def cover(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        tall, wide, _ = image.shape
        rows = slice(round(top * tall), round((top + COVER) * tall))
        columns = slice(round(left * wide), round((left + COVER) * wide))
        covered = image.copy()
        covered[rows, columns] = shade
        return covered

    return Clip(order=_as_it_is(episode), instruction=episode.instruction, paint=cover)


def _black(episode: Episode, rng: Random) -> Clip:
    return Clip(
        order=_as_it_is(episode), instruction=episode.instruction, paint=np.zeros_like, never=True
    )


def _order_kept(recorded: Floats, said: Floats, order: NDArray[np.int64]) -> float:
    return spearman(said, order)


def _falls(recorded: Floats, said: Floats, order: NDArray[np.int64]) -> float:
    return 0.0 - spearman(said, np.arange(len(said)))


def _span(recorded: Floats, said: Floats, order: NDArray[np.int64]) -> float:
    finite = said[np.isfinite(said)]
    return float(np.ptp(finite)) if len(finite) else math.nan


def _second_time(recorded: Floats, said: Floats, order: NDArray[np.int64]) -> float:
    half = len(said) // 2
    return mean_finite(np.abs(said[half:] - said[:half]))


def _less(recorded: Floats, said: Floats, order: NDArray[np.int64]) -> float:
    return float(recorded[-1] - said[-1])


def _moved(recorded: Floats, said: Floats, order: NDArray[np.int64]) -> float:
    return abs(_less(recorded, said, order))


CLIPS: tuple[SanityClip, ...] = (
    SanityClip(
        name="recorded",
        words="a success as it was recorded",
        expectation="progress rises: Spearman with the frame index",
        limit=0.5,
        at_least=True,
        make=_recorded,
        measure=_order_kept,
    ),
    SanityClip(
        name="reversed",
        words="played backwards",
        expectation="progress falls: minus Spearman with time",
        limit=0.5,
        at_least=True,
        make=_reversed,
        measure=_falls,
    ),
    SanityClip(
        name="frozen",
        words="the first frame over and over",
        expectation="progress stands still: highest minus lowest",
        limit=0.05,
        at_least=False,
        make=_frozen,
        measure=_span,
    ),
    SanityClip(
        name="looped",
        words="the first half twice",
        expectation="a frame is worth the same the second time: mean difference",
        limit=0.1,
        at_least=False,
        make=_looped,
        measure=_second_time,
    ),
    SanityClip(
        name="shuffled",
        words="frames in random order",
        expectation="progress follows the frames, not their place: Spearman with the frame index",
        limit=0.5,
        at_least=True,
        make=_shuffled,
        measure=_order_kept,
    ),
    SanityClip(
        name="wrong_instruction",
        words="asked about another goal in the same scene",
        expectation="final progress is lower by",
        limit=0.3,
        at_least=True,
        make=_wrong_instruction,
        measure=_less,
    ),
    SanityClip(
        name="other_scene",
        words="asked about things that are in another scene",
        expectation="final progress is lower by",
        limit=0.3,
        at_least=True,
        make=_other_scene,
        measure=_less,
    ),
    SanityClip(
        name="paraphrased",
        words="the same goal in other words",
        expectation="final progress moves by",
        limit=0.15,
        at_least=False,
        make=_paraphrased,
        measure=_moved,
    ),
    SanityClip(
        name="occluded",
        words="a grey square over a tenth of the picture",
        expectation="progress still rises: Spearman with the frame index",
        limit=0.5,
        at_least=True,
        make=_occluded,
        measure=_order_kept,
    ),
    SanityClip(
        name="black",
        words="black pictures",
        expectation="final progress is lower by",
        limit=0.3,
        at_least=True,
        make=_black,
        measure=_less,
    ),
)
"""All the clips, in the order of the report."""
