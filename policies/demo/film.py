"""One episode of the final policy on film: what the camera saw, and what the model said of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robo_reward.envs import VisualReward
from robo_reward.nodes.capture.scene import make_scene, render
from robo_reward.query import Mark, Query
from robo_reward.report import OverlayScores, overlay
from robo_reward.signals import Score

from ..rollout import Predictor

PICTURE_SIZE = 400
"""Side of the pictures for people, pixels; the model's are smaller."""
RATE_HZ = 8.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Film:
    """An episode of T steps.

    Attributes:
        pictures: ``(T + 1, S, S, 3) uint8``; the first one is the reset.
        scores: One per picture.
        is_done: One per picture: whether the gate has opened.
        instruction: What the robot should do.
        succeeded: Whether the goal held at the end, by the simulator's own check.
    """

    pictures: NDArray[np.uint8]
    scores: tuple[Score, ...]
    is_done: tuple[bool, ...]
    instruction: str
    succeeded: bool

    @property
    def done(self) -> bool:
        """Whether the model's done ended it."""
        return any(self.is_done)

    def write(self, path: Path) -> Path:
        """Write the camera beside the growing curves, ``.gif`` or ``.mp4``."""
        scores = OverlayScores.of(self.scores, is_done=self.is_done)
        return overlay(self.pictures, scores, path, instruction=self.instruction, rate_hz=RATE_HZ)


class ScoreLog:
    """A listener that keeps the scores of the episode that is being played, by step."""

    def __init__(self) -> None:
        self._scores: dict[int, Score] = {}

    def __call__(self, question: Query | Mark, score: Score, action: Any) -> None:
        """Keep one score."""
        if question.step == 0:
            self._scores.clear()
        self._scores[question.step] = score

    def take(self, steps: int) -> tuple[Score, ...]:
        """Return the scores of steps 0 to ``steps``."""
        return tuple(self._scores[step] for step in range(steps + 1))


class Photographer:
    """Renders what an environment shows in a copy of its scene, at a size for people.

    Args:
        env_id: Gymnasium id of a table-top environment.
        size: Side of the pictures, pixels.

    Raises:
        DeviceError: Nothing can be rendered on this machine.
    """

    def __init__(self, env_id: str, *, size: int = PICTURE_SIZE) -> None:
        self._copy: Any = make_scene(env_id, {"image_size": size}).unwrapped
        render(self._copy)

    def shoot(self, env: gym.Env[Any, Any]) -> NDArray[np.uint8]:
        """Return a picture of the state that ``env`` is in, ``(S, S, 3) uint8``."""
        shown: Any = env.unwrapped
        self._copy.load_scene(shown.scene_config())
        self._copy.load_state(shown.scene_state())
        return render(self._copy)

    def close(self) -> None:
        """Free the renderer."""
        self._copy.close()


def film(
    policy: Predictor,
    env: VisualReward,
    *,
    log: ScoreLog,
    photographer: Photographer,
    seed: int,
    takes: int,
) -> Film:
    """Film the first episode that the model calls done, the last one where it calls none.

    Args:
        policy: What chooses actions, without noise.
        env: The environment with the model's reward.
        log: A listener of ``env``.
        photographer: Takes the pictures for people.
        seed: Of the first episode.
        takes: Most episodes that are played.
    """
    for number in range(takes):
        found = _episode(policy, env, log=log, photographer=photographer, seed=seed + number)
        if found.done:
            break
    return found


def _episode(
    policy: Predictor, env: VisualReward, *, log: ScoreLog, photographer: Photographer, seed: int
) -> Film:
    observation, info = env.reset(seed=seed)
    pictures, is_done = [photographer.shoot(env)], [False]
    ended = False
    while not ended:
        action, _ = policy.predict(observation, deterministic=True)
        observation, _, terminated, truncated, _ = env.step(action)
        pictures.append(photographer.shoot(env))
        is_done.append(terminated)
        ended = terminated or truncated
    scene: Any = env.unwrapped
    return Film(
        pictures=np.stack(pictures),
        scores=log.take(len(is_done) - 1),
        is_done=tuple(is_done),
        instruction=str(info["instruction"]),
        succeeded=bool(scene.progress() >= 1.0),
    )
