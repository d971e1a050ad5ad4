"""A simulated scene that this process steps by itself: a camera without a robot."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from robo_reward.errors import ConfigError, DeviceError, MissingDependency, require
from robo_reward.frames import Image

from .base import Pace, Shot, stamps


def make_scene(scene: str, options: Mapping[str, Any]) -> Any:
    """Open a Gymnasium environment for rendering.

    Args:
        scene: Gymnasium id, ``module:id`` for one that is not registered by itself.
        options: Arguments of the environment.

    Raises:
        ConfigError: No such environment, or it does not take these arguments.
        MissingDependency: What it needs is not installed.
    """
    gymnasium = require("gymnasium", extra="sim")
    if scene.startswith("robo_reward/"):
        importlib.import_module("robo_reward.envs")
    try:
        env = gymnasium.make(scene, render_mode="rgb_array", **options)
    except MissingDependency:
        raise
    except gymnasium.error.DependencyNotInstalled as error:
        raise MissingDependency(f'{error}; run: pip install "robo-reward[sim]"') from error
    except (gymnasium.error.Error, TypeError, ImportError) as error:
        raise ConfigError(f"scene {scene!r} does not open: {error}") from error
    env.reset(seed=0)
    return env


def render(env: Any) -> Image:
    """Return what a scene shows, ``(H, W, 3) uint8 RGB``.

    Raises:
        DeviceError: It cannot be rendered here.
    """
    try:
        image = env.render()
    except Exception as error:  # MuJoCo and GL raise their own kinds, a FatalError among them
        raise DeviceError(
            f"cannot render: {error}; on a machine without a screen set MUJOCO_GL=egl and "
            "install libegl1 and libgl1"
        ) from error
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ConfigError(f"render() gave {pixels.shape} {pixels.dtype}, want (H, W, 3) uint8")
    return np.ascontiguousarray(pixels)


class SceneCapture:
    """Steps a scene at a rate and shows it.

    Args:
        scene: Gymnasium id.
        options: Arguments of the environment.
        rate_hz: Steps a second.
        action: What to do at each step.
        seed: Of the first reset and of the actions.
    """

    lossless = False
    ended = False

    def __init__(
        self,
        scene: str,
        *,
        options: Mapping[str, Any],
        rate_hz: float,
        action: Literal["random", "zero"] = "random",
        seed: int = 0,
    ) -> None:
        self._env = make_scene(scene, options)
        self._env.action_space.seed(seed)
        self._env.reset(seed=seed)
        self._action = action
        self._pace = Pace(rate_hz)

    def read(self, *, timeout_s: float) -> Shot | None:
        """Step, render, and return the image when its time has come."""
        if not self._pace.wait(timeout_s=timeout_s):
            return None
        action = self._env.action_space.sample()
        if self._action == "zero":
            action = np.zeros_like(action)
        _, _, terminated, truncated, _ = self._env.step(action)
        if terminated or truncated:
            self._env.reset()
        mono_ns, wall_ns = stamps()
        return Shot(image=render(self._env), mono_ns=mono_ns, wall_ns=wall_ns)

    def close(self) -> None:
        """Free the scene. May be called twice."""
        self._env.close()
