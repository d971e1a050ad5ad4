"""An episode as the queries that would be asked while it is played."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import DatasetError, did_you_mean
from robo_reward.frames import Frame
from robo_reward.history import History, Views
from robo_reward.query import Query
from robo_reward.task import Task

from .episode import Episode

DEMO_FRAMES = 8
"""Frames of a demonstration that a model is shown, spread evenly from the first to the last."""


def episode_views(episode: Episode, cameras: Sequence[str] = (), *, limit: int = 1) -> list[Views]:
    """Make the frames of an episode, once for all that is asked about it.

    Args:
        episode: The recording; nothing of its truth goes into the frames.
        cameras: Which, in order; the first ``limit`` ones when empty.
        limit: Number of cameras that one query may hold.

    Raises:
        DatasetError: The episode lacks a camera.
    """
    names = tuple(cameras) or tuple(episode.images)[:limit]
    absent = [name for name in names if name not in episode.images]
    if absent:
        raise DatasetError(
            f"episode {episode.id} has no camera {absent[0]!r}; "
            f"{did_you_mean(absent[0], episode.images)}"
        )
    return [
        tuple(Frame.of(episode.images[name][t], camera=name, sequence=t) for name in names)
        for t in range(len(episode))
    ]


class ClipPlayer:
    """Asks about instants one after another: each against the one before it, with its past.

    Args:
        history: Number of earlier instants that the model looks at.
        env: Environment that the queries name.
        clip: Episode number that they name.
    """

    def __init__(self, *, history: int = 0, env: int = 0, clip: int = 0) -> None:
        self._past = History(history)
        self._before: Views = ()
        self._env = env
        self._clip = clip
        self._step = 0

    def ask(self, newest: Views, task: Task) -> Query:
        """Make the query about the next instant."""
        query = Query(
            task=task,
            newest=newest,
            reference=self._before,
            history=self._past.instants,
            env=self._env,
            episode=self._clip,
            step=self._step,
        )
        self._past.add(newest)
        self._before = newest
        self._step += 1
        return query


def clip_queries(views: Sequence[Views], task: Task, *, clip: int, history: int = 0) -> list[Query]:
    """Ask about every instant against the one before it.

    Args:
        views: The instants in the order in which they are played.
        task: What the robot was asked to do.
        clip: Episode number that the queries name.
        history: Number of earlier instants that the model looks at.
    """
    player = ClipPlayer(history=history, clip=clip)
    return [player.ask(newest, task) for newest in views]


def spread_places(frames: int, *, count: int) -> NDArray[np.int64]:
    """Return up to ``count`` frame indices spread evenly from the first to the last."""
    return np.unique(np.linspace(0, frames - 1, min(count, frames)).round().astype(np.int64))
