"""A simulator whose scene is drawn elsewhere: its state is published after every step."""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError


class FollowedEnv(Protocol):
    """An environment that a camera node can follow."""

    def scene_config(self) -> bytes:
        """Return everything needed to build this episode's scene again."""
        ...

    def scene_state(self) -> NDArray[np.float64]:
        """Return the state of the scene now, ``(S,) float64``."""
        ...


class SceneSink(Protocol):
    """Publishes scenes for camera nodes; ``robo_reward.client.scene.ScenePublisher`` is one."""

    def publish(self, source: FollowedEnv, *, env: int = 0, episode: int = 0, step: int) -> int:
        """Publish what an environment shows now; step 0 begins an episode.

        Returns:
            Wall-clock stamp of the frame that will show it, nanoseconds.
        """
        ...


def followed(env: gymnasium.Env[Any, Any]) -> FollowedEnv:
    """Return the environment itself, as camera nodes follow it.

    Raises:
        ConfigError: It cannot be followed.
    """
    inner: Any = env.unwrapped
    for name in ("scene_config", "scene_state"):
        if not callable(getattr(inner, name, None)):
            raise ConfigError(
                f"{type(inner).__name__} has no {name}(); camera nodes cannot follow it, use "
                "cameras=... and let the wrapper take the frames"
            )
    found: FollowedEnv = inner
    return found
