"""The MuJoCo models of the table-top suite: one per kind of fixture, compiled once per process.

Everything that changes between episodes (which shape an object slot shows, colours, poses, lights,
camera) is a field of the compiled model, so that a new episode costs microseconds, not a compile.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from robo_reward.assets import ROOT
from robo_reward.errors import require

FIXTURES = ("none", "drawer", "button", "lever")
SHAPES = ("cube", "ball", "cylinder")
SLOTS = {"none": 4, "drawer": 2, "button": 2, "lever": 2}
"""Number of movable objects in the model of each fixture kind."""
PADS = 2
OBJECT_HALF = 0.024
TABLE_TEXTURES = 6
TIMESTEP_S = 0.005

_TEXTURES = (
    'type="2d" builtin="flat" rgb1="1 1 1" rgb2="1 1 1" width="32" height="32"',
    'type="2d" builtin="checker" rgb1="1 1 1" rgb2="0.86 0.86 0.86" width="128" height="128"',
    'type="2d" builtin="gradient" rgb1="1 1 1" rgb2="0.7 0.7 0.7" width="128" height="128"',
    'type="2d" builtin="flat" rgb1="1 1 1" mark="random" random="0.05" markrgb="0.8 0.8 0.8" '
    'width="128" height="128"',
    'type="2d" builtin="flat" rgb1="1 1 1" mark="cross" markrgb="0.75 0.75 0.75" '
    'width="64" height="64"',
    'type="2d" builtin="flat" rgb1="1 1 1" mark="edge" markrgb="0.7 0.7 0.7" '
    'width="64" height="64"',
)


def _textures() -> str:
    lines = []
    for index, texture in enumerate(_TEXTURES):
        lines.append(f'<texture name="table_{index}" {texture}/>')
        lines.append(
            f'<material name="table_{index}" texture="table_{index}" texrepeat="6 6" '
            'rgba="0.8 0.75 0.68 1" specular="0.05" shininess="0.1"/>'
        )
    return "\n".join(lines)


def _objects(count: int) -> str:
    half = OBJECT_HALF
    return "\n".join(
        f'<body name="object_{slot}" pos="{0.3 + 0.1 * slot} 0 {half}">'
        f'<freejoint name="object_{slot}"/>'
        f'<geom name="object_{slot}_cube" type="box" size="{half} {half} {half}" mass="0.08"/>'
        f'<geom name="object_{slot}_ball" type="sphere" size="{half * 1.12}" mass="0.08" '
        'condim="6" friction="1 0.02 0.004"/>'
        f'<geom name="object_{slot}_cylinder" type="cylinder" size="{half} {half}" '
        'mass="0.08"/></body>'
        for slot in range(count)
    )


def _pads() -> str:
    return "\n".join(
        f'<geom name="pad_{i}" type="box" size="0.05 0.05 0.0015" pos="0.4 {0.2 * i} 0.0015" '
        'contype="0" conaffinity="0"/>'
        for i in range(PADS)
    )


def _actuators() -> str:
    joints = ("yaw", "shoulder", "elbow", "wrist_pitch", "wrist_roll", "wrist_tilt")
    gains = (3000, 3000, 3000, 1200, 600, 600)
    lines = [
        f'<position name="{joint}" joint="arm_{joint}" kp="{kp}" dampratio="1"/>'
        for joint, kp in zip(joints, gains, strict=True)
    ]
    lines += [
        f'<position name="finger_{side}" joint="finger_{side}" kp="400" kv="10" '
        'forcerange="-14 14" ctrlrange="-0.01 0.045"/>'
        for side in ("left", "right")
    ]
    return "\n".join(lines)


def _excludes(fixture: str) -> str:
    """Keep a moving part from rubbing on its own housing.

    The housings stand still in the world, so that MuJoCo's parent filter does not hold for them.
    """
    pairs = {
        "none": (),
        "drawer": (("cabinet", "drawer_0"), ("cabinet", "drawer_1"), ("drawer_0", "drawer_1")),
        "button": (("button_0", "cap_0"), ("button_1", "cap_1")),
        "lever": (("lever_0", "stick_0"), ("lever_1", "stick_1")),
    }[fixture]
    return "\n".join(f'<exclude body1="{a}" body2="{b}"/>' for a, b in pairs)


def model_xml(fixture: str) -> str:
    """Return the MJCF of one fixture kind; includes are resolved from ``assets/mjcf``."""
    template = (ROOT / "mjcf" / "tabletop.xml.in").read_text()
    return template.format(
        timestep=TIMESTEP_S,
        textures=_textures(),
        pads=_pads(),
        objects=_objects(SLOTS[fixture]),
        fixture="" if fixture == "none" else f'<include file="{fixture}.xml"/>',
        excludes=_excludes(fixture),
        actuators=_actuators(),
    )


@cache
def _assets() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((ROOT / "mjcf").glob("*.xml"))}


def compile_model(fixture: str) -> Any:
    """Compile the model of a fixture kind, one of ``FIXTURES``; the caller owns it."""
    mujoco = require("mujoco", extra="sim")
    return mujoco.MjModel.from_xml_string(model_xml(fixture), _assets())
