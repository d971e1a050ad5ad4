"""A followed scene: the simulator runs elsewhere, its states come here and are rendered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from robo_reward.errors import ConfigError
from robo_reward.protocol.stream import SceneItem
from robo_reward.transport.inlet import Delivery, Inlet
from robo_reward.transport.keys import Keys

from .base import Shot
from .scene import make_scene, render

log = logging.getLogger(__name__)

MAX_SCENES = 64
WINDOW = 16


class FollowCapture:
    """Renders the states that a ``client.scene.ScenePublisher`` publishes; skips none.

    The peer never names what is opened: the scene's id is this node's own parameter, and states of
    any other scene are refused.

    Args:
        address: Where the simulator publishes.
        scene: Gymnasium id of the copy that is kept here.
        options: Arguments of the environment.
        name: What to call this camera there.
        keys: Secure the socket.
    """

    lossless = True
    ended = False

    def __init__(
        self,
        address: str,
        *,
        scene: str,
        options: Mapping[str, Any],
        name: str,
        keys: Keys | None = None,
    ) -> None:
        self._scene = scene
        self._options = dict(options)
        # The first copy is made now: a wrong id must show at the start and not at the first state.
        self._copies: dict[int, Any] = {0: make_scene(scene, options)}
        self._ready: set[int] = set()
        self._inlet = Inlet(
            address, name=name, mode="lossless", window=WINDOW, keys=keys, right="report"
        )
        self.refused = 0

    @property
    def connected(self) -> bool:
        """Whether the simulator was heard of lately."""
        return self._inlet.connected

    def read(self, *, timeout_s: float) -> Shot | None:
        """Return the picture of the next state, with the stamps of the state."""
        delivery = self._inlet.take(timeout_s=timeout_s)
        if delivery is None:
            return None
        try:
            return self._render(delivery)
        except ConfigError as error:
            self.refused += 1
            if self.refused == 1:
                log.error("%s", error)
            return None

    def close(self) -> None:
        """Disconnect and free the copies. May be called twice."""
        self._inlet.close()
        for copy in self._copies.values():
            copy.close()
        self._copies.clear()

    def _render(self, delivery: Delivery) -> Shot:
        item = delivery.header
        if not isinstance(item, SceneItem) or item.scene != self._scene:
            what = item.scene if isinstance(item, SceneItem) else "no scene"
            raise ConfigError(f"the simulator shows {what!r}, this camera {self._scene!r}")
        if len(delivery.parts) != 1 + item.reset:
            raise ConfigError("a scene message without its parts")
        copy = self._copy(item.tag.env)
        if item.reset:
            _load(copy.unwrapped.load_scene, bytes(delivery.parts[1]))
            self._ready.add(item.tag.env)
        if item.tag.env not in self._ready:
            raise ConfigError(f"a state of env {item.tag.env} came before its scene")
        if memoryview(delivery.parts[0]).nbytes % 8:
            raise ConfigError("a scene state must be float64 values")
        _load(copy.unwrapped.load_state, np.frombuffer(delivery.parts[0], "<f8").copy())
        return Shot(
            image=render(copy),
            mono_ns=item.mono_ns,
            wall_ns=item.wall_ns,
            clock=item.clock,
            tag=item.tag,
        )

    def _copy(self, env: int) -> Any:
        if env not in self._copies:
            if len(self._copies) >= MAX_SCENES:
                raise ConfigError(f"more than {MAX_SCENES} environments are followed")
            self._copies[env] = make_scene(self._scene, self._options)
        return self._copies[env]


def _load(load: Callable[[Any], None], value: Any) -> None:
    """Hand a peer's bytes to the copy; what it makes of them must not end this node."""
    try:
        load(value)
    except Exception as error:
        raise ConfigError(f"the copy of the scene refused a state: {error!r}") from error
