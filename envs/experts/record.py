"""Recording of the suite: rollouts with the truth about every frame, and episodes made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.datasets.episode import Episode, Quality

from ..tabletop.env import TabletopEnv
from ..tabletop.facts import Facts
from ..tabletop.goal import Goal
from ..tabletop.instructions import every_wording, instruct, names_something_here
from ..tabletop.randomise import Split, sample_scene
from ..tabletop.spec import SceneSpec
from ..tabletop.tasks import FAMILIES, all_goals, family_of
from .behaviour import behaviour
from .seeds import SEED_BASES

KIND_SHARES: dict[str, float] = {
    "expert": 0.44,
    "suboptimal": 0.10,
    "wrong_object": 0.12,
    "halfway": 0.09,
    "near_miss": 0.10,
    "undo": 0.07,
    "idle": 0.02,
    "random": 0.06,
}
"""How often each behaviour is recorded."""

TAIL = 2
"""Frames kept after the goal first holds in an expert's episode."""
EXTRA_STEPS = 30
"""How much longer than the family's limit an undoing or slow episode may take, steps."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rollout:
    """One episode with its truth.

    Attributes:
        images: Camera → ``(T, S, S, 3) uint8``.
        facts: ``(T, 30) float32``: rows of ``Facts.to_vector``.
        actions: ``(T - 1, 4) float32``.
        spec: The scene.
        goal: What the instruction asks for.
        instruction: The sentence.
        kind: Behaviour that was recorded.
        split: Split of the scene.
        seed: Seed that gives this rollout again.
    """

    images: dict[str, NDArray[np.uint8]]
    facts: NDArray[np.float32]
    actions: NDArray[np.float32]
    spec: SceneSpec
    goal: Goal
    instruction: str
    kind: str
    split: Split
    seed: int

    def judge(self, goal: Goal) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return progress ``(T,)`` and success ``(T,)`` of any goal of the scene on every frame."""
        family = family_of(goal.family)
        rows = [Facts.from_vector(row) for row in self.facts]
        progress = [family.progress(row, self.spec, goal) for row in rows]
        success = [family.success(row, self.spec, goal) for row in rows]
        return np.array(progress, np.float32), np.array(success, bool)


def roll_out(
    env: TabletopEnv, *, seed: int, kind: str, family: str | None = None, images: bool = True
) -> Rollout:
    """Record one rollout.

    Args:
        env: The environment; its split and cameras are used.
        seed: Decides scene, goal, wording and behaviour.
        kind: Behaviour, a key of ``behaviour.KINDS``.
        family: Task family; one of the environment's by chance when not given.
        images: Whether to render; without, ``images`` is empty (to test experts quickly).
    """
    rng = np.random.default_rng([seed, 7])
    kept = env.families
    if family is not None:
        env.families = (family,)
    try:
        env.reset(seed=seed)
    finally:
        env.families = kept
    actor, _ = behaviour(kind, env.spec_of_scene, env.goal, rng=rng)
    judged = family_of(env.goal.family)
    limit = judged.max_steps + (EXTRA_STEPS if kind in ("undo", "suboptimal") else 0)
    rows, actions, frames = [env.facts()], [], [env.images() if images else {}]
    left = TAIL
    for _ in range(limit):
        action = actor.act(rows[-1])
        env.step(action)
        actions.append(action)
        rows.append(env.facts())
        if images:
            frames.append(env.images())
        if kind in ("expert", "suboptimal"):
            held = judged.success(rows[-1], env.spec_of_scene, env.goal)
            left = left - 1 if held else TAIL
        if left < 0 or actor.finished:
            break
    return Rollout(
        images={name: np.stack([f[name] for f in frames]) for name in frames[0]},
        facts=np.stack([row.to_vector() for row in rows]),
        actions=np.stack(actions),
        spec=env.spec_of_scene,
        goal=env.goal,
        instruction=env.instruction,
        kind=kind,
        split=env.split,
        seed=seed,
    )


def draw_kind(rng: np.random.Generator, shares: dict[str, float] | None = None) -> str:
    """Draw a behaviour; ``shares`` default to ``KIND_SHARES``."""
    shares = shares or KIND_SHARES
    weights = np.array(list(shares.values()))
    return str(rng.choice(list(shares), p=weights / weights.sum()))


def record_episodes(
    split: Split,
    *,
    episodes: int,
    seed: int = 0,
    families: Sequence[str] = tuple(FAMILIES),
    cameras: tuple[str, ...] = ("front",),
    image_size: int = 96,
    renderer: str = "gl",
) -> Iterator[Episode]:
    """Record labelled episodes of a split, families in turn, behaviours by ``KIND_SHARES``.

    Args:
        split: train, seen, unseen or paraphrase.
        episodes: How many.
        seed: Number of the set within the split; another one shares no episode.
        families: Task families.
        cameras: Cameras to render.
        image_size: Side of the images, pixels.
        renderer: ``"gl"`` or ``"rays"``.

    Yields:
        Episodes whose ``meta`` holds family, split, kind and seed, and what is known of sentences:
        ``alternatives`` are false of what the video shows at its end, the ``never_true`` ones among
        them of every frame; ``other_tasks`` names one sentence per family about things that are not
        there; ``paraphrases`` say the same as the instruction, in the wordings of training
        (``grammar``) and in others (``held_out``); ``counterfactuals`` are other instructions with
        the truth about every frame.
    """
    env = TabletopEnv(
        tuple(families), split=split, cameras=cameras, image_size=image_size, renderer=renderer
    )
    try:
        for index in range(episodes):
            number = SEED_BASES[split] + seed * 1_000_000 + index
            kind = draw_kind(np.random.default_rng([number, 3]))
            family = families[index % len(families)]
            yield to_episode(roll_out(env, seed=number, kind=kind, family=family))
    finally:
        env.close()


def to_episode(rollout: Rollout) -> Episode:
    """Turn a rollout into a dataset episode with labels for its own instruction."""
    progress, done = rollout.judge(rollout.goal)
    success = bool(done[-1])
    quality: Quality = "failure" if not success else "success"
    if success and rollout.kind == "suboptimal":
        quality = "suboptimal"
    return Episode(
        id=f"{rollout.split}-{rollout.seed}",
        instruction=rollout.instruction,
        images=rollout.images,
        progress=progress,
        done=done,
        success=success,
        quality=quality,
        actions=rollout.actions,
        meta={
            "family": rollout.goal.family,
            "split": rollout.split,
            "kind": rollout.kind,
            "seed": rollout.seed,
            **sentences(rollout),
            "counterfactuals": counterfactuals(rollout),
        },
    )


def sentences(rollout: Rollout, *, at_most: int = 4) -> dict[str, Any]:
    """Return what is known of sentences about a rollout: see ``record_episodes``."""
    false = alternatives(rollout, at_most=at_most)
    spec, goal = rollout.spec, rollout.goal
    return {
        "alternatives": list(false),
        "never_true": [text for text, other in false.items() if not rollout.judge(other)[1].any()],
        "other_tasks": other_tasks(rollout),
        "paraphrases": {
            "grammar": every_wording(goal, spec),
            "held_out": every_wording(goal, spec, held_out=True),
        },
    }


def other_tasks(rollout: Rollout, *, tries: int = 50) -> dict[str, str]:
    """Family → a sentence from another scene of the split that is surely false in this one.

    Surely, because what it acts on is not there. A family for which no such sentence comes up is
    left out: whether a sentence about things that *are* there holds is not for chance to say.
    """
    rng = np.random.default_rng([rollout.seed, 13])
    found = {}
    for family in FAMILIES:
        for _ in range(tries):
            spec, goal = sample_scene(family, rng=rng, split=rollout.split, looks=False)
            if not names_something_here(goal, spec, rollout.spec):
                held_out = rollout.split == "paraphrase"
                found[family] = instruct(goal, spec, rng=rng, held_out=held_out)
                break
    return found


def alternatives(rollout: Rollout, *, at_most: int = 4, below: float = 0.3) -> dict[str, Goal]:
    """Instructions about the same scene whose true progress ends below ``below``, with goals."""
    rng = np.random.default_rng([rollout.seed, 11])
    last = Facts.from_vector(rollout.facts[-1])
    held_out = rollout.split == "paraphrase"
    false = [
        goal
        for goal in all_goals(rollout.spec)
        if goal != rollout.goal
        and family_of(goal.family).progress(last, rollout.spec, goal) < below
    ]
    order = rng.permutation(len(false))[:at_most]
    return {instruct(false[i], rollout.spec, rng=rng, held_out=held_out): false[i] for i in order}


def counterfactuals(rollout: Rollout, *, at_most: int = 4) -> list[dict[str, Any]]:
    """Other instructions about the same scene, judged on every frame, for training.

    Returns:
        Rows of ``instruction``, ``progress`` ``(T,)`` and ``done`` ``(T,)``, plain values.
    """
    rng = np.random.default_rng([rollout.seed, 13])
    others = [goal for goal in all_goals(rollout.spec) if goal != rollout.goal]
    rows = []
    for index in rng.permutation(len(others))[:at_most]:
        progress, done = rollout.judge(others[index])
        text = instruct(
            others[index], rollout.spec, rng=rng, held_out=rollout.split == "paraphrase"
        )
        rows.append({"instruction": text, "progress": progress.tolist(), "done": done.tolist()})
    return rows
