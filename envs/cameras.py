"""Frames of an environment: from ``render()``, from callables, or from a Dict observation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from robo_reward.errors import ConfigError
from robo_reward.frames import Frame, Image

View = str | Callable[[Any], Any]
"""Key of a Dict observation, or a callable from the environment to an image."""

OBSERVATION = "."
"""A view that is the whole observation, for environments that observe one image."""

CANNOT_RENDER = (
    "the reward model needs frames, and this environment gives none: make it with "
    'gymnasium.make(..., render_mode="rgb_array"), or pass '
    "cameras={{name: observation key or callable(env) -> (H, W, 3) uint8}}, or, where camera nodes "
    "stream on their own, camera_stream=(name, ...) ({why})"
)


class Cameras:
    """Takes one image per camera of an environment.

    Args:
        views: Name of each camera and where its image comes from; ``None`` for one camera
            ``render`` that is ``env.render()``.
        env: The environment, to refuse early what cannot work.

    Raises:
        ConfigError: The environment has no images to give.
    """

    def __init__(self, views: Mapping[str, View] | None, *, env: gymnasium.Env[Any, Any]) -> None:
        self.views: dict[str, View | None] = dict(views) if views else {"render": None}
        if not views:
            self._check_render(env)
        for name, view in self.views.items():
            if isinstance(view, str):
                self._check_key(name, view, space=env.observation_space)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cameras, in order."""
        return tuple(self.views)

    def take(self, env: gymnasium.Env[Any, Any], observation: Any) -> dict[str, Image]:
        """Return one image per camera, ``(H, W, 3) uint8 RGB``, copied from the environment."""
        images = {}
        for name, view in self.views.items():
            if view is None:
                raw = env.render()
            elif callable(view):
                raw = view(env)
            else:
                raw = observation if view == OBSERVATION else observation[view]
            images[name] = as_image(raw, camera=name)
        return images

    @staticmethod
    def _check_render(env: gymnasium.Env[Any, Any]) -> None:
        if env.render_mode != "rgb_array":
            raise ConfigError(CANNOT_RENDER.format(why=f"render_mode is {env.render_mode!r}"))

    @staticmethod
    def _check_key(name: str, key: str, *, space: gymnasium.Space[Any]) -> None:
        keys = list(space.spaces) if isinstance(space, gymnasium.spaces.Dict) else []
        if key != OBSERVATION and key not in keys:
            raise ConfigError(
                f"camera {name!r}: the observation has no key {key!r} (it has "
                f"{', '.join(keys) or 'no keys at all'}); {OBSERVATION!r} names the observation "
                "itself, and a callable(env) may return any image"
            )


def as_image(raw: Any, *, camera: str) -> Image:
    """Return a copy as ``(H, W, 3) uint8 RGB``; channels may come first, alpha is left out.

    A copy, because renderers reuse their buffer while the frame still waits to be scored.

    Raises:
        ConfigError: It is no image; floats are refused because their range cannot be known.
    """
    if raw is None or isinstance(raw, (list, tuple)):
        kind = "nothing" if raw is None else f"a {type(raw).__name__} of {len(raw)} items"
        raise ConfigError(CANNOT_RENDER.format(why=f"camera {camera!r} returned {kind}"))
    image = np.asarray(raw)
    if image.ndim == 3 and image.shape[0] == 3 and image.shape[2] not in (3, 4):
        image = image.transpose(1, 2, 0)
    if image.ndim != 3 or image.shape[2] not in (3, 4) or image.dtype != np.uint8:
        raise ConfigError(
            f"camera {camera!r} must give (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}"
        )
    return np.array(image[..., :3], order="C")


def make_frames(
    images: Mapping[str, Image], *, sequence: int, wall_ns: int, jpeg_quality: int | None
) -> tuple[Frame, ...]:
    """Return one frame per camera, all with the same stamp and sequence number."""
    return tuple(
        Frame.of(image, camera=name, sequence=sequence, wall_ns=wall_ns, jpeg_quality=jpeg_quality)
        for name, image in images.items()
    )
