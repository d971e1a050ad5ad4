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
from robo_reward.frames import Image

Observes = Literal["state", "features"]
OBSERVES: tuple[Observes, ...] = ("state", "features")

Encoder = Callable[[Sequence[Image]], NDArray[np.float32]]
"""From images, ``(H, W, 3) uint8``, to ``(n, d) float32``, as ``CompactModel.visual_features``."""


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
        size = int(np.prod(env.observation_space.shape or ()))
        # One picture tells the length of the features without asking the model for its layout.
        blank = np.zeros((96, 96, 3), np.uint8)
        size += int(encoder([blank]).shape[1])
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def observation(self, observation: Any) -> NDArray[np.float32]:
        """Return ``(n + d,)``.

        Raises:
            ConfigError: The environment does not render.
        """
        image = self.env.render()
        if not isinstance(image, np.ndarray):
            raise ConfigError('no image to encode; make the env with render_mode="rgb_array"')
        seen = self._encoder([image])[0]
        return np.concatenate([np.ravel(observation), seen]).astype(np.float32)
