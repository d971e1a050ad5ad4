"""What a scene is made of, as plain values: enough to rebuild an episode's picture anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.83, 0.10, 0.10),
    "green": (0.10, 0.58, 0.18),
    "blue": (0.10, 0.26, 0.85),
    "yellow": (0.95, 0.82, 0.08),
    "purple": (0.48, 0.13, 0.66),
    "orange": (0.96, 0.46, 0.04),
    "cyan": (0.08, 0.74, 0.80),
    "pink": (0.96, 0.48, 0.68),
}
"""Names that instructions use, and linear RGB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSpec:
    """A movable object.

    Attributes:
        shape: ``"cube"``, ``"ball"`` or ``"cylinder"``.
        colour: Key of ``COLOURS``.
        position: Start of its centre, ``(x, y, z)`` metres.
        yaw: Start angle about the vertical, radians.
        tint: Offset added to the colour, so that no two reds are quite the same.
    """

    shape: str
    colour: str
    position: tuple[float, float, float]
    yaw: float = 0.0
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PadSpec:
    """A flat coloured square on the table: a place to bring things to."""

    colour: str
    position: tuple[float, float]
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixtureSpec:
    """The two drawers, buttons or levers of the scene.

    Attributes:
        kind: ``"none"``, ``"drawer"``, ``"button"`` or ``"lever"``.
        colours: Colour of the handles, caps or knobs.
        offsets: Shift of each part from its place in the MJCF, ``(x, y)`` metres.
        joints: Start value of each joint, metres or radians.
    """

    kind: str = "none"
    colours: tuple[str, str] = ("red", "blue")
    offsets: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    joints: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraSpec:
    """A camera on a sphere about the middle of the table.

    Attributes:
        azimuth: Degrees; 0 looks from the front at the robot, 90 from its left.
        elevation: Degrees above the table.
        distance: Metres from the point looked at.
        fovy: Vertical field of view, degrees.
        shift: Offset of the point looked at, metres.
    """

    azimuth: float = 0.0
    elevation: float = 40.0
    distance: float = 0.9
    fovy: float = 42.0
    shift: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookSpec:
    """Light and surfaces."""

    table_texture: int = 0
    table_colour: tuple[float, float, float] = (0.80, 0.75, 0.68)
    wall_colour: tuple[float, float, float] = (0.70, 0.72, 0.75)
    floor_colour: tuple[float, float, float] = (0.45, 0.47, 0.50)
    arm_colour: tuple[float, float, float] = (0.86, 0.86, 0.88)
    accent_colour: tuple[float, float, float] = (0.25, 0.27, 0.31)
    ambient: float = 0.35
    key_light: float = 0.5
    key_position: tuple[float, float, float] = (0.6, -0.6, 1.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSpec:
    """A whole scene at the start of an episode."""

    objects: tuple[ObjectSpec, ...] = ()
    pads: tuple[PadSpec, ...] = ()
    fixture: FixtureSpec = FixtureSpec()
    cameras: dict[str, CameraSpec] = field(default_factory=dict)
    look: LookSpec = LookSpec()
    grip: tuple[float, float, float] = (0.33, 0.0, 0.20)

    def to_bytes(self) -> bytes:
        """Encode as msgpack, for a camera process that renders the same scene."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> SceneSpec:
        """Decode what ``to_bytes`` gave; raises ``msgspec.ValidationError`` on anything else."""
        return msgspec.msgpack.decode(data, type=cls)
