"""A simulator whose scene is drawn elsewhere: its state is published after every step."""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError


class SceneSink(Protocol):
    """Publishes scenes for camera nodes; ``robo_reward.client.ScenePublisher`` is one."""

    def publish(self, state: NDArray[np.float64], *, wall_ns: int, config: bytes | None) -> None:
        """Send the state of the scene at this instant.

        Args:
            state: What ``env.unwrapped.scene_state()`` returned, ``(n,) float64``.
            wall_ns: Wall-clock time, nanoseconds; camera nodes stamp their frame with it.
            config: What ``env.unwrapped.scene_config()`` returned, at the first state of an
                episode; ``None`` afterwards.
        """
        ...


class SceneStream:
    """Publishes the scene of one environment.

    Args:
        sink: Where to.
        env: An environment whose ``unwrapped`` has ``scene_config()`` and ``scene_state()``.

    Raises:
        ConfigError: It has not.
    """

    def __init__(self, sink: SceneSink, *, env: gymnasium.Env[Any, Any]) -> None:
        self._sink = sink
        self._env: Any = env.unwrapped
        self._config: bytes | None = None
        for name in ("scene_config", "scene_state"):
            if not callable(getattr(self._env, name, None)):
                raise ConfigError(
                    f"{type(self._env).__name__} has no {name}(); camera nodes cannot follow it, "
                    "use cameras=... and let the wrapper take the frames"
                )

    def begin(self) -> None:
        """Read the configuration of the scene anew: the environment was reset."""
        self._config = bytes(self._env.scene_config())

    def publish(self, *, wall_ns: int) -> None:
        """Send the present state with this stamp."""
        state = np.asarray(self._env.scene_state(), np.float64)
        self._sink.publish(state, wall_ns=wall_ns, config=self._config)
        self._config = None
