"""The simulator's end of a followed scene: a camera node elsewhere renders what happens here.

The learner's process steps the environment and publishes its states, a few hundred bytes each. A
camera node holds a copy of the scene, sets each state and streams the picture, stamped with the
time of the state and tagged with its transition: rendering costs the learner nothing.

An environment that can be followed has, on its unwrapped self, ``scene_config() -> bytes`` (all
that an episode's scene is made of, changing at resets only) and ``scene_state() -> (S,) float64``;
its copy takes them by ``load_scene(config)`` and ``load_state(state)`` before ``render()``.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robo_reward.closing import Closing
from robo_reward.errors import ConfigError, TransportError
from robo_reward.protocol.stream import SceneItem, Tag
from robo_reward.transport.clock import clock_name
from robo_reward.transport.keys import Keys
from robo_reward.transport.outlet import Limits, Outlet

QUEUE = 64


class SceneEnv(Protocol):
    """What a followed environment gives."""

    def scene_config(self) -> bytes:
        """Return everything needed to build this episode's scene again."""
        ...

    def scene_state(self) -> NDArray[np.float64]:
        """Return the state of the scene now, ``(S,) float64``."""
        ...


class ScenePublisher(Closing):
    """Binds an address and publishes the states of one or more environments; none is skipped.

    Args:
        address: Endpoint to bind; ``tcp://127.0.0.1:*`` takes a free port.
        scene: Gymnasium id; the camera node must have been started with the same.
        topic: Resolved topic.
        timeout_s: How long a renderer may be behind, or away, before ``TransportError``.
        insecure_no_auth: Allow an address that other machines can reach, without keys.
        keys: Secure the socket.

    Example:
        >>> publisher = ScenePublisher("tcp://127.0.0.1:*", scene="robo_reward/PickPlace-v0")
        >>> publisher.address.startswith("tcp://127.0.0.1:")
        True
        >>> publisher.close()
    """

    def __init__(
        self,
        address: str,
        *,
        scene: str,
        topic: str = "scene",
        timeout_s: float = 30.0,
        insecure_no_auth: bool = False,
        keys: Keys | None = None,
    ) -> None:
        self.scene = scene
        self._timeout_s = timeout_s
        self._outlet = Outlet(
            address,
            topic=topic,
            content="scene",
            lossless=True,
            limits=Limits(items=QUEUE),
            insecure_no_auth=insecure_no_auth,
            keys=keys,
        )
        self.address: str = self._outlet.address

    def wait_for_renderer(self, *, timeout_s: float, count: int = 1) -> bool:
        """Wait until this many camera nodes follow; ``False`` at the time-out."""
        return self._outlet.wait_for_consumers(count, timeout_s=timeout_s)

    def reset(
        self, config: bytes, state: NDArray[np.floating[Any]], *, env: int = 0, episode: int = 0
    ) -> int:
        """Publish the scene of a new episode and its first state (step 0).

        Args:
            config: ``scene_config()``, at most 8 MiB.
            state: ``scene_state()``, ``(S,)`` floats.
            env: Index of the environment, as in the marks that ask about it.
            episode: Number of the episode, as in the marks.

        Returns:
            The stamp of the frame that will show it: wall clock, nanoseconds. A mark whose time is
            this or later finds that frame.

        Raises:
            TransportError: A renderer is further behind than the time-out.
        """
        return self._publish(Tag(env=env, episode=episode, step=0), state, config)

    def step(
        self, state: NDArray[np.floating[Any]], *, env: int = 0, episode: int = 0, step: int
    ) -> int:
        """Publish the state after a step; arguments, result and errors as those of ``reset``."""
        return self._publish(Tag(env=env, episode=episode, step=step), state, None)

    def publish(self, source: SceneEnv, *, env: int = 0, episode: int = 0, step: int) -> int:
        """Publish what an environment shows now; step 0 begins an episode."""
        state = source.scene_state()
        if step == 0:
            return self.reset(source.scene_config(), state, env=env, episode=episode)
        return self.step(state, env=env, episode=episode, step=step)

    def close(self) -> None:
        """Unbind and free the thread. May be called twice."""
        self._outlet.close()

    def _publish(self, tag: Tag, state: NDArray[np.floating[Any]], config: bytes | None) -> int:
        values = np.ascontiguousarray(state, dtype="<f8")
        if values.ndim != 1:
            raise ConfigError(f"a scene state must be (S,) floats, got {values.shape}")
        if not self._outlet.wait_for_room(timeout_s=self._timeout_s):
            raise TransportError(
                f"the camera node that follows {self.scene} is {QUEUE} states behind for "
                f"{self._timeout_s:g} s; is it still running?"
            )
        wall_ns = time.time_ns()
        item = SceneItem(
            scene=self.scene,
            tag=tag,
            reset=config is not None,
            mono_ns=time.monotonic_ns(),
            wall_ns=wall_ns,
            clock=clock_name(),
        )
        parts = [values.tobytes()] if config is None else [values.tobytes(), config]
        # A renderer that comes later, or again, starts from the episode's scene and last state.
        self._outlet.publish(item, parts, latch=f"env {tag.env}", add_to_latch=config is None)
        return wall_ns
