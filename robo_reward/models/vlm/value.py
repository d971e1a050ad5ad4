"""Base of models that judge one clip: progress is its value, delta a difference of two."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robo_reward.models.base import ScoreArrays

from .generative import VALUES_KEPT, Case, GenerativeModel
from .passage import Picture
from .prompt import Filling, percents
from .readings import Vector


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Shown:
    """A clip to judge.

    Attributes:
        case: The query it comes from.
        clip: Its frames, oldest first.
        views: The frames of its last instant, one per camera.
    """

    case: Case
    clip: tuple[Picture, ...]
    views: tuple[Picture, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """What its value depends on."""
        shown = (*self.clip, *self.views[1:], *self.case.start[1:])
        return (self.case.query.task.key, *(picture.key for picture in shown))

    @property
    def filling(self) -> Filling:
        """What every prompt may show of it."""
        goal = self.case.goal
        return {
            "instruction": [self.case.text],
            "clip": self.clip,
            "frame": self.clip[-1:],
            "first": self.clip[:1],
            "goal": [goal] if goal is not None else [],
            "demo": percents(self.case.demo),
        }


class ValueModel(GenerativeModel):
    """Base class; a subclass gives ``_judge_clips``.

    Values are kept by task and frames, so that the newest clip of one query is not judged again
    as the reference of the next, and deltas telescope.
    """

    @abstractmethod
    def _judge_clips(self, shown: Sequence[Shown]) -> dict[str, Vector]:
        """Return signals of clips, ``(n,)`` each: any of progress, done and uncertainty."""

    def _judge(self, cases: Sequence[Case]) -> ScoreArrays:
        now = [Shown(case=case, clip=case.clip, views=case.newest) for case in cases]
        able = "progress" in self.capabilities.signals
        then = [Shown(case=case, clip=case.before, views=case.reference) for case in cases]
        then = then if able else []
        known = self._known([*now, *then])
        names = ("progress", "done", "uncertainty")
        table = np.array([known[one.key] for one in now], np.float64).reshape(len(now), len(names))
        signals = dict(zip(names, table.T, strict=True))
        if able:
            before = np.array([known[one.key][0] for one in then], np.float64)
            signals["progress_delta"] = signals["progress"] - before
        return self.rows(len(cases), **signals)

    def _known(self, shown: Sequence[Shown]) -> dict[tuple[str, ...], tuple[float, ...]]:
        """Return progress, done and uncertainty of clips, each judged once."""
        asked = {one.key: one for one in shown if one.key not in self._values}
        found = {one.key: self._values[one.key] for one in shown if one.key not in asked}
        if asked:
            told = self._judge_clips(list(asked.values()))
            none = np.full(len(asked), np.nan)
            columns = [told.get(name, none) for name in ("progress", "done", "uncertainty")]
            for key, values in zip(asked, np.stack(columns, axis=1).tolist(), strict=True):
                found[key] = self._values[key] = tuple(values)
            while len(self._values) > VALUES_KEPT:
                self._values.popitem(last=False)
        return found
