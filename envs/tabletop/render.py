"""Two ways to get a picture of a MuJoCo scene: OpenGL, and rays where there is no OpenGL."""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import DeviceError, require
from robo_reward.frames import Image


class SceneRenderer(Protocol):
    """Renders one model at one size."""

    def render(self, data: Any, camera: str) -> Image:
        """Return the picture that a named camera sees, ``(H, W, 3) uint8 RGB``."""
        ...

    def close(self) -> None:
        """Free the context."""
        ...


class GlRenderer:
    """OpenGL through EGL or OSMesa, without shadows: on a CPU the shadow pass costs 40 ms.

    Args:
        model: ``mujoco.MjModel``.
        height: Pixels.
        width: Pixels.

    Raises:
        DeviceError: There is no OpenGL here.
    """

    def __init__(self, model: Any, *, height: int, width: int) -> None:
        os.environ.setdefault("MUJOCO_GL", "egl")
        mujoco = require("mujoco", extra="sim")
        try:
            self._renderer = mujoco.Renderer(model, height, width)
        except Exception as error:
            raise DeviceError(
                f"no OpenGL for MuJoCo ({type(error).__name__}: {error}); install libegl1 and "
                'libgl1, set MUJOCO_GL=osmesa, or use renderer="rays"'
            ) from error
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0

    def render(self, data: Any, camera: str) -> Image:
        """Return ``(H, W, 3) uint8 RGB``."""
        self._renderer.update_scene(data, camera)
        image: Image = self._renderer.render()
        return image

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()


class RayRenderer:
    """Casts one ray a pixel with ``mj_multiRay`` and shades flat: no OpenGL, no textures.

    Args:
        model: ``mujoco.MjModel``.
        height: Pixels.
        width: Pixels.
    """

    LIGHT = np.array([0.32, -0.28, 0.9])

    def __init__(self, model: Any, *, height: int, width: int) -> None:
        self._mujoco = require("mujoco", extra="sim")
        self._model = model
        self._shape = (height, width)
        pixels = height * width
        self._distance = np.empty(pixels)
        self._geom = np.empty(pixels, np.int32)
        self._normal = np.empty(3 * pixels)

    def render(self, data: Any, camera: str) -> Image:
        """Return ``(H, W, 3) uint8 RGB``."""
        rays, origin = self._rays(data, camera)
        count = rays.size // 3
        # MuJoCo before 3.6 has no normals argument; their absence is a TypeError.
        try:
            self._mujoco.mj_multiRay(
                self._model, data, origin, rays, None, 1, -1,
                self._geom, self._distance, self._normal, count, 100.0,
            )  # fmt: skip
            normals: NDArray[np.float64] | None = self._normal.reshape(-1, 3)
        except TypeError:
            self._mujoco.mj_multiRay(
                self._model, data, origin, rays, None, 1, -1,
                self._geom, self._distance, count, 100.0,
            )  # fmt: skip
            normals = None
        return self._shade(normals)

    def close(self) -> None:
        """Nothing to free."""

    def _rays(self, data: Any, camera: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        height, width = self._shape
        index = self._model.camera(camera).id
        slope = np.tan(np.deg2rad(self._model.cam_fovy[index]) / 2)
        rows, columns = np.mgrid[0:height, 0:width]
        across = ((columns + 0.5) / width * 2 - 1) * slope * width / height
        up = (1 - (rows + 0.5) / height * 2) * slope
        rays = np.stack([across, up, -np.ones_like(up)], -1).reshape(-1, 3)
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        rays = rays @ data.cam_xmat[index].reshape(3, 3).T
        return np.ascontiguousarray(rays.reshape(-1)), data.cam_xpos[index].copy()

    def _shade(self, normals: NDArray[np.float64] | None) -> Image:
        model = self._model
        material = model.geom_matid
        colours = np.where(
            (material >= 0)[:, None], model.mat_rgba[np.maximum(material, 0)], model.geom_rgba
        )[:, :3]
        hit = self._geom >= 0
        image = np.full((hit.size, 3), 0.08)
        shaded = colours[self._geom[hit]]
        if normals is not None:
            shaded = shaded * (0.45 + 0.55 * np.abs(normals[hit] @ self.LIGHT))[:, None]
        image[hit] = shaded
        return (image.clip(0, 1) * 255).astype(np.uint8).reshape(*self._shape, 3)


RENDERERS: dict[str, type[GlRenderer] | type[RayRenderer]] = {"gl": GlRenderer, "rays": RayRenderer}
