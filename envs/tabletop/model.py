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

_HEADER = """
<mujoco model="tabletop">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{timestep}" integrator="implicitfast" cone="elliptic" impratio="2"/>
  <size memory="4M"/>
  <visual>
    <global offwidth="640" offheight="640"/>
    <quality shadowsize="0" offsamples="0"/>
    <headlight ambient="0.35 0.35 0.35" diffuse="0.35 0.35 0.35" specular="0.05 0.05 0.05"/>
    <map znear="0.05" zfar="20"/>
  </visual>
  <default>
    <geom condim="4" friction="1 0.01 0.001" solref="0.01 1"/>
    <default class="arm"><geom rgba="0.86 0.86 0.88 1" contype="0" conaffinity="0"/></default>
    <default class="arm_accent"><geom rgba="0.25 0.27 0.31 1" contype="0" conaffinity="0"/></default>
    <default class="hand"><geom rgba="0.25 0.27 0.31 1" contype="2" conaffinity="1"/></default>
    <default class="finger">
      <geom rgba="0.12 0.12 0.13 1" friction="1.5 0.05 0.002" contype="2" conaffinity="1" mass="0.05"/>
    </default>
    <default class="arm_joint"><joint damping="2" armature="0.2"/></default>
    <default class="finger_joint"><joint damping="8" armature="0.02"/></default>
    <default class="fixture"><geom type="box" rgba="0.62 0.62 0.66 1"/></default>
    <default class="drawer"><geom type="box" rgba="0.80 0.76 0.68 1" mass="0.08"/></default>
    <default class="handle"><geom mass="0.02" friction="1.5 0.02 0.001"/></default>
    <default class="drawer_joint"><joint damping="4" frictionloss="0.8" armature="0.05"/></default>
    <default class="button_joint"><joint damping="2" stiffness="120" armature="0.01"/></default>
    <default class="lever_joint"><joint damping="0.1" frictionloss="0.15" armature="0.004"/></default>
  </default>
  <asset>
    {textures}
    <material name="floor" rgba="0.45 0.47 0.5 1"/>
  </asset>
  <worldbody>
    <light name="key" pos="0.6 -0.6 1.6" dir="-0.2 0.5 -1.4" castshadow="false" diffuse="0.5 0.5 0.5"/>
    <light name="fill" pos="0.8 0.9 1.4" dir="-0.4 -0.8 -1.2" castshadow="false" diffuse="0.25 0.25 0.25"/>
    <camera name="front" pos="1.2 0 0.75" fovy="42"/>
    <camera name="side" pos="0.5 -0.9 0.7" fovy="42"/>
    <geom name="floor" type="plane" pos="0 0 -0.6" size="6 6 0.1" material="floor" contype="0" conaffinity="0"/>
    <geom name="table" type="box" pos="0.32 0 -0.03" size="0.46 0.55 0.03" material="table_0" friction="0.9 0.01 0.001"/>
    <geom name="wall" type="box" pos="-0.75 0 0.3" size="0.02 2.5 1.2" rgba="0.7 0.72 0.75 1" contype="0" conaffinity="0"/>
    {pads}
    {objects}
    <include file="arm.xml"/>
    {fixture}
  </worldbody>
  <contact>
    {excludes}
  </contact>
  <actuator>
    {actuators}
  </actuator>
</mujoco>
"""

_TEXTURES = (
    'type="2d" builtin="flat" rgb1="1 1 1" rgb2="1 1 1" width="32" height="32"',
    'type="2d" builtin="checker" rgb1="1 1 1" rgb2="0.86 0.86 0.86" width="128" height="128"',
    'type="2d" builtin="gradient" rgb1="1 1 1" rgb2="0.7 0.7 0.7" width="128" height="128"',
    'type="2d" builtin="flat" rgb1="1 1 1" mark="random" random="0.05" markrgb="0.8 0.8 0.8" '
    'width="128" height="128"',
    'type="2d" builtin="flat" rgb1="1 1 1" mark="cross" markrgb="0.75 0.75 0.75" '
    'width="64" height="64"',
    'type="2d" builtin="flat" rgb1="1 1 1" mark="edge" markrgb="0.7 0.7 0.7" width="64" height="64"',
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
    lines = []
    for slot in range(count):
        lines.append(
            f'<body name="object_{slot}" pos="{0.3 + 0.1 * slot} 0 {half}">'
            f'<freejoint name="object_{slot}"/>'
            f'<geom name="object_{slot}_cube" type="box" size="{half} {half} {half}" mass="0.08"/>'
            f'<geom name="object_{slot}_ball" type="sphere" size="{half * 1.12}" mass="0.08" '
            'condim="6" friction="1 0.02 0.004"/>'
            f'<geom name="object_{slot}_cylinder" type="cylinder" size="{half} {half}" '
            'mass="0.08"/></body>'
        )
    return "\n".join(lines)


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
    """A moving part never rubs on its own housing; the housings stand still in the world, so that
    MuJoCo's parent filter does not hold for them.
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
    return _HEADER.format(
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
