"""How much the labels hang on the wording: final frames under the same sentence said otherwise.

Only changes that cannot change the meaning are made up here: politeness, a frame around the
sentence, capitals, a full stop. Better paraphrases come from whoever knows the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robo_reward.datasets.labels import LabelTable
from robo_reward.datasets.recorded import Dataset, Instant, Recorded
from robo_reward.errors import DatasetError
from robo_reward.query import Query
from robo_reward.task import Task

from .joined import joined
from .judging import Judge
from .options import RelabelOptions

EPISODES = 16
"""Episodes that are asked about, spread evenly over the dataset."""


def rewordings(sentence: str) -> tuple[str, ...]:
    """Return a sentence and other ways to say it.

    Example:
        >>> rewordings("open the drawer")[1:3]
        ('please open the drawer', 'The robot should open the drawer.')
    """
    bare = sentence.strip().rstrip(".")
    start = bare[:1].lower() + bare[1:]
    made = (
        sentence,
        f"please {start}",
        f"The robot should {start}.",
        f"the task is to {start}",
        f"{bare[:1].upper()}{bare[1:]}.",
    )
    return tuple(dict.fromkeys(made))


def wording_spread(
    dataset: Dataset, table: LabelTable, judge: Judge, options: RelabelOptions
) -> dict[str, Any]:
    """Ask about the last labelled frame of some episodes in other words.

    Returns:
        ``episodes``, ``mean`` and ``largest``: largest minus smallest progress over the wordings;
        ``worst``: the episode of the largest. Empty where the model looks back (its answer for one
        frame takes a whole episode) or gives no progress.
    """
    info = judge.info()
    if info.history or "progress" not in info.signals or options.goal != "none":
        return {}
    rows = [(labels.index, int(labels.frames[-1]), labels.instructions[-1]) for labels in table]
    if not rows:
        return {}
    places = np.unique(np.linspace(0, len(rows) - 1, min(EPISODES, len(rows))).round().astype(int))
    wanted = {rows[place][0]: rows[place] for place in places}
    spreads: dict[str, float] = {}
    for episode, labels in joined(dataset, table):
        if labels.index not in wanted:
            continue
        _, frame, sentence = wanted[labels.index]
        instant = _instant(episode, frame, options, limit=info.max_views)
        spread = _spread(judge, instant, rewordings(sentence))
        if np.isfinite(spread):
            spreads[episode.id] = spread
    if not spreads:
        return {}
    worst = max(spreads, key=lambda name: spreads[name])
    return {
        "episodes": len(spreads),
        "mean": float(np.mean(list(spreads.values()))),
        "largest": spreads[worst],
        "worst": worst,
    }


def _instant(episode: Recorded, frame: int, options: RelabelOptions, *, limit: int) -> Instant:
    cameras = episode.choose(options.cameras, limit=limit)
    for instant in episode.instants(cameras, start=frame):
        if instant.index == frame:
            return instant
    raise DatasetError(f"episode {episode.id} has no frame {frame} any more")


def _spread(judge: Judge, instant: Instant, sentences: Sequence[str]) -> float:
    queries = [Query(task=Task(instruction=text), newest=instant.frames) for text in sentences]
    judge.begin(queries[0].task)
    scores = judge.score(queries)
    progress = [score.signals.progress for score in scores if score.ok]
    return max(progress) - min(progress) if len(progress) > 1 else float("nan")
