"""What a policy observes: the simulator's state, or proprioception with frozen visual features.

Written beside every result. "No ground truth" speaks of reward, done, selection and stopping; a
policy on ``state`` still sees where things are, which a robot would have to find out with cameras.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError
from robo_reward.frames import Frame, Image
from robo_reward.task import Task

Observes = Literal["state", "features"]
OBSERVES: tuple[Observes, ...] = ("state", "features")

Encoder = Callable[[Sequence[Frame], Task], NDArray[np.float32]]
"""From frames and a task to ``(n, d) float32``, as ``CompactModel.visual_features``."""


def make_options(observes: Observes) -> dict[str, Any]:
    """Return what ``gymnasium.make`` of a table-top environment needs for an observation.

    Raises:
        ConfigError: There is no such observation.
    """
    if observes == "state":
        return {"observation": "state"}
    if observes == "features":
        return {"observation": "proprio", "render_mode": "rgb_array"}
    raise ConfigError(f"observes must be one of {', '.join(OBSERVES)}, got {observes!r}")


def observe(
    env: gym.Env[Any, Any], observes: Observes, *, encoder: Encoder | None = None
) -> gym.Env[Any, Any]:
    """Return the environment with the observation that was chosen.

    Args:
        env: Made with ``make_options(observes)``.
        observes: ``state`` or ``features``.
        encoder: Needed for ``features``.

    Raises:
        ConfigError: ``features`` without an encoder.
    """
    if observes == "state":
        return env
    if encoder is None:
        raise ConfigError("observes=features needs an encoder, such as that of --model compact")
    return FrozenFeatures(env, encoder)


class FrozenFeatures(gym.ObservationWrapper[Any, Any, Any]):
    """Appends what a frozen encoder sees to the observation.

    Args:
        env: One with a flat observation that renders.
        encoder: See ``Encoder``; it is not trained.
    """

    def __init__(self, env: gym.Env[Any, Any], encoder: Encoder) -> None:
        super().__init__(env)
        self._encoder = encoder
        self._task = Task(instruction="look")
        self._image: Image | None = None
        size = int(np.prod(env.observation_space.shape or ()))
        # One picture tells the length of the features without asking the model for its layout.
        blank = Frame.of(np.zeros((96, 96, 3), np.uint8))
        size += int(encoder([blank], self._task).shape[1])
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Take the task of the episode from ``info["instruction"]``.

        Raises:
            ConfigError: The environment gives none.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        if not info.get("instruction"):
            raise ConfigError('no info["instruction"] at reset: visual features are of a task')
        self._task = Task(instruction=str(info["instruction"]))
        return self.observation(observation), info

    def observation(self, observation: Any) -> NDArray[np.float32]:
        """Return ``(n + d,)``.

        Raises:
            ConfigError: The environment does not render.
        """
        image = self.env.render()
        if not isinstance(image, np.ndarray):
            raise ConfigError('no image to encode; make the env with render_mode="rgb_array"')
        self._image = image
        seen = self._encoder([Frame.of(image)], self._task)[0]
        return np.concatenate([np.ravel(observation), seen]).astype(np.float32)

    def render(self) -> Any:
        """Return the picture that the observation was made of; the reward is read from the same."""
        return self.env.render() if self._image is None else self._image
