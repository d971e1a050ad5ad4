"""Records labelled episodes of a simulator that others wrote, one world for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robo_reward.datasets.episode import Episode, Quality
from robo_reward.errors import ConfigError, did_you_mean

from ..experts.seeds import SEED_BASES
from .actors import KINDS, Moment, World, actor, kind_in_turn
from .wording import Wording, instruct, sentences

HOLD = 3
"""Frames that an episode goes on for after its goal is first reached, if the goal still holds."""
FAIL_SHARE = 0.4
"""Share of the step limit after which an episode of a behaviour that need not succeed ends."""

WorldMaker = Callable[[str, int], World]
"""From a task and a seed to its world."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A suite whose episodes are recorded here.

    Attributes:
        name: Of the suite.
        tasks: Task → its sentences.
        splits: Split → its tasks.
        open_world: Makes the world of one episode.
        camera: Name of the camera.
        elsewhere: Further sentences that are false of every episode.
    """

    name: str
    tasks: Mapping[str, Wording]
    splits: Mapping[str, Sequence[str]]
    open_world: WorldMaker
    camera: str
    elsewhere: tuple[str, ...] = ()


def record(
    source: Source,
    split: str,
    *,
    episodes: int,
    seed: int,
    families: Sequence[str],
    kinds: Sequence[str],
) -> Iterator[Episode]:
    """Record episodes, tasks in turn.

    Args:
        source: The suite.
        split: A key of its splits.
        episodes: How many.
        seed: Number of the set within the split; another one shares no episode.
        families: Tasks to take; empty for all of the split.
        kinds: Behaviours to record in turn; empty for ``kind_in_turn``.

    Raises:
        ConfigError: A task is not one of the split, or a behaviour does not exist.
    """
    known = tuple(source.splits[split])
    problems = [
        f"split {split} of {source.name} has no task {name!r}; {did_you_mean(name, known)}"
        for name in families
        if name not in known
    ]
    problems += [
        f"no behaviour {kind!r}; {did_you_mean(kind, KINDS)}" for kind in kinds if kind not in KINDS
    ]
    if problems:
        raise ConfigError("; ".join(problems))
    tasks = tuple(families) or known
    return (
        _episode(source, split, tasks[index % len(tasks)], number=number, kind=kind)
        for index in range(episodes)
        for number in (SEED_BASES[split] + seed * 1_000_000 + index,)
        for kind in (_kind(kinds, known.index(tasks[index % len(tasks)]), index // len(tasks)),)
    )


def _kind(kinds: Sequence[str], task: int, turn: int) -> str:
    return kinds[turn % len(kinds)] if kinds else kind_in_turn(task, turn)


def _episode(source: Source, split: str, task: str, *, number: int, kind: str) -> Episode:
    world = source.open_world(task, number)
    try:
        played = play(world, kind, rng=np.random.default_rng([number, 7]))
    finally:
        world.close()
    success = bool(played.done[-1])
    rng, held_out = np.random.default_rng([number, 11]), split == "paraphrase"
    return Episode(
        id=f"{source.name}-{split}-{task}-{number}",
        instruction=instruct(source.tasks[task], rng=rng, held_out=held_out),
        images={source.camera: played.images},
        progress=played.progress,
        done=played.done,
        success=success,
        quality=_quality(kind, success=success),
        actions=played.actions,
        meta={
            "suite": source.name,
            "family": task,
            "split": split,
            "kind": kind,
            "seed": number,
            **sentences(
                task,
                {name: source.tasks[name] for name in source.splits[split]},
                rng=rng,
                success=success,
                held_out=held_out,
                elsewhere=source.elsewhere,
            ),
        },
    )


def _quality(kind: str, *, success: bool) -> Quality:
    if not success:
        return "failure"
    return "suboptimal" if kind in ("suboptimal", "noisy") else "success"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Played:
    """One episode of T frames.

    Attributes:
        images: ``(T, S, S, 3) uint8``.
        progress: ``(T,) float32``.
        done: ``(T,) bool``.
        actions: ``(T - 1, 4) float32``: mean of the actions between two frames.
    """

    images: NDArray[np.uint8]
    progress: NDArray[np.float32]
    done: NDArray[np.bool_]
    actions: NDArray[np.float32]


def play(world: World, kind: str, *, rng: np.random.Generator) -> Played:
    """Play one episode in a world.

    A frame is kept every ``world.stride`` steps, and at the step that first reaches the goal. From
    there on every step is a frame, and the episode ends when ``HOLD`` of them held the goal: some
    simulators call a goal reached for a few steps only.

    Args:
        world: A fresh one.
        kind: Behaviour, a key of ``KINDS``.
        rng: Source of the behaviour's randomness.
    """
    who = actor(kind, world, rng=rng)
    now = world.begin()
    moments, images, actions = [now], [world.image()], []
    aims_to_succeed = kind in ("expert", "suboptimal")
    limit = world.limit if aims_to_succeed else int(FAIL_SHARE * world.limit)
    steps = 0
    while steps < limit and not who.finished and not _settled(moments):
        block = []
        for _ in range(1 if now.done and aims_to_succeed else world.stride):
            block.append(who.act(now))
            was, now = now, world.step(block[-1])
            steps += 1
            if (now.done and not was.done) or steps == limit:
                break
        moments.append(now)
        images.append(world.image())
        actions.append(np.mean(block, axis=0))
    return Played(
        images=np.stack(images),
        progress=np.array([moment.progress for moment in moments], np.float32),
        done=np.array([moment.done for moment in moments], bool),
        actions=np.array(actions, np.float32),
    )


def _settled(moments: Sequence[Moment]) -> bool:
    """Whether the goal held in the last frames."""
    return len(moments) > HOLD and all(moment.done for moment in moments[-HOLD:])


def staged(*, approach: float, moved: float, done: bool) -> float:
    """Return stage-wise progress: 0.3 for getting there, 0.65 for the work, the rest for success.

    Both shares are of the distance that there was at the beginning. Once the work has visibly begun
    (a tenth of it), the way there counts as made, wherever the hand is.

    Args:
        approach: Share of the hand's way to the object.
        moved: Share of the object's way to its goal.
        done: The simulator's own check.

    Example:
        >>> staged(approach=0.5, moved=0.0, done=False)
        0.15
        >>> staged(approach=0.2, moved=1.0, done=True)
        1.0
    """
    if done:
        return 1.0
    moved = min(1.0, max(0.0, moved))
    way = max(min(1.0, max(0.0, approach)), min(1.0, 10.0 * moved))
    return 0.3 * way + 0.65 * moved


def check_renderer(name: str, renderer: str) -> None:
    """Refuse a renderer that cannot draw the meshes of a suite.

    Raises:
        ConfigError: It is not ``"gl"``.
    """
    if renderer != "gl":
        raise ConfigError(f"{name} is drawn by renderer gl only, not {renderer!r}")
