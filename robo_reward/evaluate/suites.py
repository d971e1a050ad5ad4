"""Episodes by name of a suite and split; nothing of a suite is imported until it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robo_reward.datasets.clips import DEMO_FRAMES, spread_places
from robo_reward.datasets.episode import Episode
from robo_reward.datasets.log_episode import log_episode
from robo_reward.errors import ConfigError, did_you_mean
from robo_reward.frames import Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Where the episodes of a suite come from.

    Attributes:
        recorder: ``module:function`` of ``(split, *, episodes, seed, **options)``, which gives
            episodes with truth and with what it knows of sentences in ``meta``; README.md of this
            folder has the keys.
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
    "metaworld": Suite(
        recorder="robo_reward.envs.external.metaworld:record_episodes",
        splits=("unseen", "seen", "train", "paraphrase"),
        families="robo_reward.envs.external.metaworld_tasks:TASKS",
    ),
    "fetch": Suite(
        recorder="robo_reward.envs.external.fetch:record_episodes",
        splits=("unseen", "train"),
        families="robo_reward.envs.external.fetch_tasks:TASKS",
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


def demonstrations(
    name: str, *, families: tuple[str, ...] = (), seed: int = 0, **options: Any
) -> dict[str, tuple[Frame, ...]]:
    """Return one demonstration per task family: a success of the train split, see ``demos_of``.

    For models that read one, or a goal image, which is its last frame. The scene is another one
    than in the episodes that are judged, as it is wherever it is shown once and used from then on.

    Args:
        name: A key of ``SUITES``.
        families: Task families; empty for all of them.
        seed: Number of the set within the split.
        **options: Passed to the recorder.

    Raises:
        ConfigError: As ``open_suite``, or a family without a success in twelve episodes.
    """
    wanted = set(families or _load(SUITES[name].families))
    episodes = open_suite(
        name, split="train", episodes=12 * len(wanted), seed=seed, families=families, **options
    )
    found = demos_of(episodes, wanted)
    absent = ", ".join(sorted(wanted - set(found)))
    if absent:
        raise ConfigError(f"suite {name} gave no success in training to demonstrate {absent}")
    return found


def demos_of(
    episodes: Iterable[Episode], wanted: Collection[str] = ()
) -> dict[str, tuple[Frame, ...]]:
    """Return task family → ``DEMO_FRAMES`` frames of its first success, first camera.

    Args:
        episodes: Read until every wanted family has one; all of them where none is named.
        wanted: Task families.
    """
    found: dict[str, tuple[Frame, ...]] = {}
    for episode in episodes:
        family = str(episode.meta.get("family", "all"))
        if episode.success and family not in found:
            camera, images = next(iter(episode.images.items()))
            places = spread_places(len(images), count=DEMO_FRAMES)
            found[family] = tuple(Frame.of(images[place], camera=camera) for place in places)
        if wanted and set(wanted) <= set(found):
            break
    return found


def record_suite(
    folder: Path,
    episodes: Iterable[Episode],
    *,
    jpeg_quality: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[int, int]:
    """Write the episodes of a suite as recordings, which any machine can evaluate.

    An episode that the folder already holds is left as it is.

    Args:
        folder: Made if need be.
        episodes: As ``open_suite`` gives them.
        jpeg_quality: 1–100 stores frames as JPEG; ``None`` keeps their pixels.
        on_progress: Called with the number of episodes done.

    Returns:
        Number of episodes written, and of their frames.

    Raises:
        DatasetError: The folder cannot be written to.
    """
    written = frames = 0
    for number, episode in enumerate(episodes):
        if not (folder / f"{episode.id}.mcap").exists():
            log_episode(folder, episode, jpeg_quality=jpeg_quality)
            written += 1
            frames += len(episode)
        if on_progress is not None:
            on_progress(number + 1)
    return written, frames


def _load(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
