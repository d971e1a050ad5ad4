"""Episodes by name of a suite and split; nothing of a suite is imported until it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from robo_reward.datasets.episode import Episode
from robo_reward.errors import ConfigError, did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Where the episodes of a suite come from.

    Attributes:
        recorder: ``module:function`` of ``(split, *, episodes, seed, **options)``, which gives
            episodes with truth and ``meta["alternatives"]``.
        splits: Names of its splits.
        families: ``module:mapping`` of its task families.
    """

    recorder: str
    splits: tuple[str, ...]
    families: str


SUITES: dict[str, Suite] = {
    "tabletop": Suite(
        recorder="robo_reward.envs.experts.record:record_episodes",
        splits=("unseen", "seen", "train", "paraphrase"),
        families="robo_reward.envs.tabletop.tasks:FAMILIES",
    ),
}
"""Name → suite."""


def open_suite(
    name: str,
    *,
    split: str = "unseen",
    episodes: int = 200,
    seed: int = 0,
    families: tuple[str, ...] = (),
    **options: Any,
) -> Iterator[Episode]:
    """Record or read the episodes of a suite, one at a time.

    Args:
        name: A key of ``SUITES``.
        split: One of the suite's splits.
        episodes: How many.
        seed: Number of the set within the split; another one shares no episode.
        families: Task families to take; empty for all of them.
        **options: Passed to the recorder, for example ``renderer``.

    Raises:
        ConfigError: All that is wrong with what was asked, before anything is recorded.
    """
    problems = []
    if name not in SUITES:
        raise ConfigError(f"no suite {name!r}; {did_you_mean(name, SUITES)}")
    suite = SUITES[name]
    if split not in suite.splits:
        problems.append(f"suite {name} has no split {split!r}; {did_you_mean(split, suite.splits)}")
    if episodes < 1:
        problems.append(f"episodes must be >= 1, got {episodes}")
    if families:
        known = _load(suite.families)
        for family in families:
            if family not in known:
                hint = did_you_mean(family, known)
                problems.append(f"suite {name} has no task family {family!r}; {hint}")
        options["families"] = families
    if problems:
        raise ConfigError("; ".join(problems))
    record: Callable[..., Iterator[Episode]] = _load(suite.recorder)
    return record(split, episodes=episodes, seed=seed, **options)


def _load(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
