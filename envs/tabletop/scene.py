"""A scene that runs: a compiled model dressed as a spec says, stepped, rendered and read."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError, require
from robo_reward.frames import Image

from .control import OPEN_WIDTH, CartesianController
from .facts import MAX_OBJECTS, Facts
from .model import OBJECT_HALF, PADS, SHAPES, SLOTS, TABLE_TEXTURES, compile_model
from .render import RENDERERS, SceneRenderer
from .spec import COLOURS, CameraSpec, SceneSpec

SUBSTEPS = 16
"""Simulation steps per action: 16 × 5 ms = 80 ms, 12.5 actions a second."""
LOOK_AT = np.array([0.37, 0.0, 0.05])
BUTTON_LATCH = 0.010
"""Depth at which a cap latches, metres."""
HIDDEN = np.array([0.0, 0.0, -2.0])


class Stage:
    """One compiled model with its data and renderers; dressed again for every episode.

    Args:
        fixture: Kind of fixture, one of ``model.FIXTURES``.
        renderer: ``"gl"`` or ``"rays"``.
    """

    def __init__(self, fixture: str, *, renderer: str = "gl") -> None:
        if renderer not in RENDERERS:
            raise ConfigError(f"renderer must be one of {sorted(RENDERERS)}, got {renderer!r}")
        mujoco = require("mujoco", extra="sim")
        self._mujoco = mujoco
        self.fixture = fixture
        self.model = compile_model(fixture)
        self.data = mujoco.MjData(self.model)
        self.slots = SLOTS[fixture]
        self.lit = np.zeros(2, bool)
        self.controller = CartesianController()
        self._renderer_name = renderer
        self._renderers: dict[tuple[int, int], SceneRenderer] = {}
        self._index()

    def dress(self, spec: SceneSpec) -> None:
        """Make the model look and stand as the spec says, and settle it at rest."""
        if spec.fixture.kind != self.fixture:
            raise ConfigError(f"a {self.fixture} stage cannot show a {spec.fixture.kind} scene")
        self._spec = spec
        self._mujoco.mj_resetData(self.model, self.data)
        self.lit[:] = False
        self._dress_objects()
        self._dress_pads()
        self._dress_fixture()
        self._dress_look()
        for name in ("front", "side"):
            self._place_camera(name, spec.cameras.get(name, DEFAULT_CAMERAS[name]))
        joints = self.controller.reset(np.array(spec.grip))
        self.data.qpos[self._arm] = joints
        self.data.ctrl[:6] = joints
        self.data.qpos[self._fingers] = OPEN_WIDTH
        self.data.ctrl[6:] = OPEN_WIDTH
        self._mujoco.mj_forward(self.model, self.data)

    def act(self, action: NDArray[np.float32]) -> None:
        """Run one action, ``(4,)`` in [-1, 1], for 80 ms of simulated time."""
        joints, finger = self.controller.command(action, self.grip, substeps=SUBSTEPS)
        for target in joints:
            self.data.ctrl[:6] = target
            self.data.ctrl[6:] = finger
            self._mujoco.mj_step(self.model, self.data)
        # A step leaves the places of things as they were before its last integration; whoever
        # renders from the state alone would otherwise see another picture.
        self._mujoco.mj_kinematics(self.model, self.data)
        self._mujoco.mj_camlight(self.model, self.data)
        if self.fixture == "button":
            self._latch_buttons()

    @property
    def grip(self) -> NDArray[np.float64]:
        """Tool point, ``(3,)`` metres."""
        point: NDArray[np.float64] = self.data.site_xpos[self._grip_site]
        return point.copy()

    def facts(self) -> Facts:
        """Read the truth of this instant."""
        objects = np.full((MAX_OBJECTS, 3), np.nan)
        count = len(self._spec.objects)
        objects[:count] = self.data.xpos[self._bodies[:count]]
        parts = np.full((2, 3), np.nan)
        joints = np.zeros(2)
        if self.fixture != "none":
            parts[:] = self.data.site_xpos[self._part_sites]
            joints[:] = self.data.qpos[self._fixture_qpos]
        return Facts(
            grip=self.grip,
            opening=float(self.data.qpos[self._fingers].mean()),
            objects=objects,
            held=self._held(),
            joints=joints,
            lit=self.lit.copy(),
            parts=parts,
        )

    def state(self) -> NDArray[np.float64]:
        """Return everything that changes within an episode, ``(nq + 2,) float64``."""
        return np.concatenate([self.data.qpos, self.lit])

    def load_state(self, state: NDArray[np.float64]) -> None:
        """Show a state of ``state()``; positions only, for rendering."""
        self.data.qpos[:] = state[:-2]
        lit = state[-2:] > 0.5
        if (lit != self.lit).any():
            self.lit[:] = lit
            self._paint_buttons()
        self._mujoco.mj_kinematics(self.model, self.data)
        self._mujoco.mj_camlight(self.model, self.data)

    def render(self, camera: str, *, size: tuple[int, int]) -> Image:
        """Return the picture of a camera, ``(H, W, 3) uint8 RGB``; ``size`` is (H, W) pixels."""
        renderer = self._renderers.get(size)
        if renderer is None:
            kind = RENDERERS[self._renderer_name]
            renderer = self._renderers[size] = kind(self.model, height=size[0], width=size[1])
        return renderer.render(self.data, camera)

    def close(self) -> None:
        """Free the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _index(self) -> None:
        model = self.model
        arm = ("yaw", "shoulder", "elbow", "wrist_pitch", "wrist_roll", "wrist_tilt")
        self._arm = [int(model.joint(f"arm_{name}").qposadr[0]) for name in arm]
        sides = ("left", "right")
        self._fingers = [int(model.joint(f"finger_{side}").qposadr[0]) for side in sides]
        self._finger_geoms = [model.geom(f"finger_{side}").id for side in sides]
        self._grip_site = model.site("grip").id
        self._bodies = np.array([model.body(f"object_{i}").id for i in range(self.slots)])
        self._object_qpos = [int(model.joint(f"object_{i}").qposadr[0]) for i in range(self.slots)]
        if self.fixture == "none":
            return
        prefix = "handle" if self.fixture == "drawer" else self.fixture
        self._part_sites = [model.site(f"{prefix}_{i}").id for i in range(2)]
        self._fixture_qpos = [int(model.joint(f"{self.fixture}_{i}").qposadr[0]) for i in range(2)]
        self._fixture_home = model.body_pos.copy()

    def _dress_objects(self) -> None:
        model = self.model
        for slot in range(self.slots):
            present = slot < len(self._spec.objects)
            start = self._object_qpos[slot]
            item = self._spec.objects[slot] if present else None
            for shape in SHAPES:
                geom = model.geom(f"object_{slot}_{shape}")
                shown = item is not None and item.shape == shape
                geom.contype[0] = geom.conaffinity[0] = int(shown)
                colour = _tinted(item.colour, item.tint) if item is not None else (0.0, 0.0, 0.0)
                geom.rgba[:] = (*colour, 1.0 if shown else 0.0)
            if item is None:
                # An empty slot floats under the table without weight, so that it costs no contact.
                self.data.qpos[start : start + 3] = HIDDEN + [slot, 0, 0]
                model.body_gravcomp[self._bodies[slot]] = 1.0
                continue
            model.body_gravcomp[self._bodies[slot]] = 0.0
            self.data.qpos[start : start + 3] = item.position
            half = item.yaw / 2
            self.data.qpos[start + 3 : start + 7] = (math.cos(half), 0, 0, math.sin(half))

    def _dress_pads(self) -> None:
        for index in range(PADS):
            geom = self.model.geom(f"pad_{index}")
            if index < len(self._spec.pads):
                pad = self._spec.pads[index]
                geom.pos[:] = (*pad.position, 0.0015)
                geom.rgba[:] = (*_tinted(pad.colour, pad.tint), 1.0)
            else:
                geom.rgba[3] = 0.0

    def _dress_fixture(self) -> None:
        fixture = self._spec.fixture
        if fixture.kind == "none":
            return
        for index in range(2):
            body = {"drawer": "cabinet", "lever": f"lever_{index}", "button": f"button_{index}"}
            number = self.model.body(body[fixture.kind]).id
            self.model.body_pos[number, :2] = (
                self._fixture_home[number, :2] + fixture.offsets[index]
            )
            self.data.qpos[self._fixture_qpos[index]] = fixture.joints[index]
            colour = COLOURS[fixture.colours[index]]
            geoms = {
                "drawer": ("handle_{}", "handle_{}a", "handle_{}b"),
                "lever": ("stick_{}", "knob_{}"),
                "button": ("cap_{}",),
            }[fixture.kind]
            for name in geoms:
                self.model.geom(name.format(index)).rgba[:] = (*colour, 1.0)
        if fixture.kind == "button":
            self._paint_buttons()

    def _dress_look(self) -> None:
        look = self._spec.look
        model = self.model
        texture = look.table_texture % TABLE_TEXTURES
        model.geom("table").matid[0] = model.material(f"table_{texture}").id
        model.material(f"table_{texture}").rgba[:3] = look.table_colour
        model.material("floor").rgba[:3] = look.floor_colour
        model.geom("wall").rgba[:3] = look.wall_colour
        for body in ("arm_base", "arm_turret", "arm_fore", "arm_roll"):
            self._paint_body(body, look.arm_colour)
        for body in ("arm_upper", "arm_wrist", "hand"):
            self._paint_body(body, look.accent_colour)
        model.vis.headlight.ambient[:] = look.ambient
        model.light("key").diffuse[:] = look.key_light
        model.light("key").pos[:] = look.key_position

    def _paint_body(self, body: str, colour: tuple[float, float, float]) -> None:
        item = self.model.body(body)
        first, count = int(item.geomadr[0]), int(item.geomnum[0])
        self.model.geom_rgba[first : first + count, :3] = colour

    def _paint_buttons(self) -> None:
        """A pressed cap stays down and its ring turns from dark to bright."""
        for index in range(2):
            lit = bool(self.lit[index])
            self.model.geom(f"ring_{index}").rgba[:] = (
                (1, 1, 0.85, 1) if lit else (0.1, 0.1, 0.1, 1)
            )
            joint = self.model.joint(f"button_{index}")
            self.model.qpos_spring[int(joint.qposadr[0])] = 0.013 if lit else 0.0

    def _latch_buttons(self) -> None:
        pressed = self.data.qpos[self._fixture_qpos] > BUTTON_LATCH
        if (pressed & ~self.lit).any():
            self.lit |= pressed
            self._paint_buttons()

    def _place_camera(self, name: str, camera: CameraSpec) -> None:
        position, matrix = camera_pose(camera)
        item = self.model.camera(name)
        quaternion = np.empty(4)
        self._mujoco.mju_mat2Quat(quaternion, matrix.ravel())
        item.pos[:] = position
        item.quat[:] = quaternion
        item.fovy[:] = camera.fovy

    def _held(self) -> NDArray[np.bool_]:
        held = np.zeros(MAX_OBJECTS, bool)
        pairs = self.data.contact.geom
        if not len(pairs):
            return held
        bodies = self.model.geom_bodyid[pairs]
        touched = []
        for finger in self._finger_geoms:
            rows = (pairs == finger).any(axis=1)
            touched.append(set(bodies[rows].ravel().tolist()))
        both = touched[0] & touched[1]
        for slot in range(len(self._spec.objects)):
            held[slot] = int(self._bodies[slot]) in both
        return held


DEFAULT_CAMERAS = {
    "front": CameraSpec(),
    "side": CameraSpec(azimuth=-75.0, elevation=35.0),
}


def camera_pose(camera: CameraSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return position ``(3,)`` metres and rotation ``(3, 3)`` of a camera that sees the table."""
    azimuth, elevation = math.radians(camera.azimuth), math.radians(camera.elevation)
    away = np.array(
        [
            math.cos(elevation) * math.cos(azimuth),
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ]
    )
    target = LOOK_AT + [camera.shift[0], camera.shift[1], 0.0]
    right = np.cross([0.0, 0.0, 1.0], away)
    right /= np.linalg.norm(right)
    up = np.cross(away, right)
    return target + camera.distance * away, np.stack([right, up, away], axis=1)


def rest_height(shape: str) -> float:
    """Height of an object's centre when it stands on the table, metres."""
    return (1.12 if shape == "ball" else 1.0) * OBJECT_HALF


def _tinted(colour: str, tint: tuple[float, float, float]) -> tuple[float, float, float]:
    red, green, blue = np.clip(np.add(COLOURS[colour], tint), 0.0, 1.0)
    return float(red), float(green), float(blue)
