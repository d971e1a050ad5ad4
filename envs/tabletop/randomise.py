"""Scenes drawn at random, and what each split may show.

``train`` and ``seen`` share a distribution and differ in seeds. ``unseen`` shows combinations of
thing and colour, and camera azimuths, that no ``train`` or ``seen`` scene holds.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError

from .goal import Goal
from .model import SHAPES, TABLE_TEXTURES
from .scene import rest_height
from .spec import (
    COLOURS,
    CameraSpec,
    FixtureSpec,
    LookSpec,
    ObjectSpec,
    PadSpec,
    SceneSpec,
)
from .tasks import family_of

Split = Literal["train", "seen", "unseen", "paraphrase"]
SPLITS: tuple[str, ...] = ("train", "seen", "unseen", "paraphrase")

UNSEEN_PAIRS = frozenset(
    {
        ("cube", "purple"),
        ("cube", "orange"),
        ("ball", "green"),
        ("ball", "pink"),
        ("cylinder", "red"),
        ("cylinder", "cyan"),
        ("pad", "yellow"),
        ("pad", "orange"),
        ("drawer", "green"),
        ("drawer", "purple"),
        ("button", "blue"),
        ("button", "orange"),
        ("lever", "red"),
        ("lever", "cyan"),
    }
)
"""Combinations that only the ``unseen`` split shows; every thing and every colour is seen alone."""

SEEN_AZIMUTHS = ((-36.0, -20.0), (-8.0, 8.0), (20.0, 36.0))
UNSEEN_AZIMUTHS = ((-18.0, -10.0), (10.0, 18.0))
"""Degrees of the front camera; the gaps between the two sets belong to neither."""

_X = (0.27, 0.49)
_Y = (-0.20, 0.20)
_SPACING = 0.10
_PUSH_DISTANCE = 0.14
_PUSH_CLEARANCE = 0.07
_KEEP_OUT: dict[str, tuple[tuple[float, float, float], ...]] = {
    "none": (),
    # Centre (x, y) and radius of what a fixture may sweep, metres.
    "drawer": tuple((x, y, 0.10) for x in (0.30, 0.40, 0.50) for y in (0.10, 0.20)),
    "button": ((0.38, -0.10, 0.13), (0.38, 0.10, 0.13)),
    "lever": tuple((x, y, 0.11) for x in (0.36, 0.50) for y in (-0.12, 0.0, 0.12)),
}


def sample_scene(
    family: str, *, rng: np.random.Generator, split: Split = "train", looks: bool = True
) -> tuple[SceneSpec, Goal]:
    """Draw a scene and a goal of one family in it.

    Args:
        family: Name of the task family.
        rng: Source of randomness; the same state gives the same scene.
        split: Which combinations and camera poses may appear.
        looks: Whether light, textures, colours' tints and the camera vary; without, only what is
            there and where.

    Raises:
        ConfigError: Unknown family or split.
    """
    if split not in SPLITS:
        raise ConfigError(f"split must be one of {SPLITS}, got {split!r}")
    chosen = family_of(family)
    fixture = chosen.fixture
    if fixture == "none" and family in ("reach", "lift") and rng.random() < 0.25:
        fixture = str(rng.choice(["drawer", "button", "lever"]))
    for _ in range(100):
        spec = _draw(fixture, family, rng=rng, split=split, looks=looks)
        goals = [goal for goal in chosen.goals(spec) if _suits(goal, spec, split)]
        if goals:
            return spec, goals[int(rng.integers(len(goals)))]
    raise ConfigError(f"no {split} scene allows {family}")  # pragma: no cover - 100 draws


def _draw(
    fixture: str, family: str, *, rng: np.random.Generator, split: Split, looks: bool
) -> SceneSpec:
    count = int(rng.integers(2, 5)) if fixture == "none" else int(rng.integers(0, 3))
    if family in ("reach", "lift"):
        count = max(count, 1)
    pads = (
        2 if fixture == "none" and (family in ("push", "pick_place") or rng.random() < 0.6) else 0
    )
    points = _points(count + pads, fixture, rng)
    return SceneSpec(
        objects=_objects(points[:count], family, split, rng),
        pads=_pads(points[count:], split, rng),
        fixture=_fixture(fixture, family, split, rng),
        cameras=_cameras(split, rng) if looks else {},
        look=_look(rng) if looks else LookSpec(),
        grip=(
            float(rng.uniform(0.28, 0.40)),
            float(rng.uniform(-0.12, 0.12)),
            float(rng.uniform(0.15, 0.24)),
        ),
    )


def _suits(goal: Goal, spec: SceneSpec, split: Split) -> bool:
    """Whether the goal is hard enough to be one, and about something the split is for."""
    if goal.family in ("push", "pick_place"):
        start = np.array(spec.objects[goal.target].position[:2])
        apart = float(np.linalg.norm(start - spec.pads[goal.place].position))
        if apart < _PUSH_DISTANCE:
            return False
        if goal.family == "push" and not _clear_way(goal, spec):
            return False
    if split != "unseen":
        return True
    family = family_of(goal.family)
    if family.fixture != "none":
        return (family.fixture, spec.fixture.colours[goal.target]) in UNSEEN_PAIRS
    item = spec.objects[goal.target]
    return (item.shape, item.colour) in UNSEEN_PAIRS


def _clear_way(goal: Goal, spec: SceneSpec) -> bool:
    """Whether nothing stands on the line from behind the object to the pad."""
    end = np.array(spec.pads[goal.place].position)
    start = np.array(spec.objects[goal.target].position[:2])
    way = (end - start) / np.linalg.norm(end - start)
    start = start - 0.09 * way
    length = float(np.linalg.norm(end - start))
    if not (0.22 <= start[0] <= 0.55 and abs(start[1]) <= 0.28):
        return False
    for index, item in enumerate(spec.objects):
        if index == goal.target:
            continue
        offset = np.array(item.position[:2]) - start
        along = min(max(float(offset @ way), 0.0), length)
        if np.linalg.norm(offset - along * way) < _PUSH_CLEARANCE:
            return False
    return True


def _points(count: int, fixture: str, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Spread points over the table, apart from each other and from what the fixture sweeps."""
    blocked = _KEEP_OUT[fixture]
    while True:
        points: list[NDArray[np.float64]] = []
        for _ in range(200):
            if len(points) == count:
                return points
            point = np.array([rng.uniform(*_X), rng.uniform(*_Y)])
            free = all(np.linalg.norm(point - other) >= _SPACING for other in points)
            clear = all(np.hypot(point[0] - x, point[1] - y) >= r for x, y, r in blocked)
            if free and clear:
                points.append(point)


def _objects(
    points: list[NDArray[np.float64]], family: str, split: Split, rng: np.random.Generator
) -> tuple[ObjectSpec, ...]:
    pairs = _pairs(SHAPES, split, rng)
    items: list[ObjectSpec] = []
    for index, point in enumerate(points):
        shape, colour = pairs[index]
        # Half of the time the next thing shares the colour or the shape, so that both words count.
        if index and rng.random() < 0.5:
            before = items[-1]
            alike = [p for p in pairs[index:] if p[0] == before.shape or p[1] == before.colour]
            if alike:
                shape, colour = alike[0]
                pairs.remove(alike[0])
                pairs.insert(index, alike[0])
        items.append(
            ObjectSpec(
                shape=shape,
                colour=colour,
                position=(float(point[0]), float(point[1]), rest_height(shape)),
                yaw=float(rng.uniform(-0.35, 0.35)),
                tint=_tint(rng),
            )
        )
    return tuple(items)


def _pairs(
    things: tuple[str, ...], split: Split, rng: np.random.Generator
) -> list[tuple[str, str]]:
    pairs = [(thing, colour) for thing in things for colour in COLOURS]
    if split != "unseen":
        pairs = [pair for pair in pairs if pair not in UNSEEN_PAIRS]
    order = rng.permutation(len(pairs))
    shuffled = [pairs[i] for i in order]
    if split == "unseen":
        # At least the first one is new, so that most draws hold a goal of the split.
        shuffled.sort(key=lambda pair: pair not in UNSEEN_PAIRS and rng.random() < 0.5)
    return shuffled


def _pads(
    points: list[NDArray[np.float64]], split: Split, rng: np.random.Generator
) -> tuple[PadSpec, ...]:
    colours = [colour for _, colour in _pairs(("pad",), split, rng)]
    return tuple(
        PadSpec(colour=colour, position=(float(point[0]), float(point[1])), tint=_tint(rng))
        for point, colour in zip(points, colours, strict=False)
    )


def _fixture(kind: str, family: str, split: Split, rng: np.random.Generator) -> FixtureSpec:
    if kind == "none":
        return FixtureSpec()
    colours = [colour for _, colour in _pairs((kind,), split, rng)][:2]
    if kind == "drawer":
        shift = (float(rng.uniform(-0.04, 0.04)), float(rng.uniform(-0.03, 0.02)))
        shut, out = float(rng.uniform(0, 0.004)), float(rng.uniform(0.10, 0.125))
        joints = [shut, out] if rng.random() < 0.5 else [out, shut]
        if rng.random() < 0.3:
            joints = [shut, shut] if family == "open_drawer" else [out, out]
        return _parts(kind, colours, [shift, shift], joints)
    if kind == "button":
        offsets = [(float(rng.uniform(-0.05, 0.05)), float(rng.uniform(-0.03, 0.03))) for _ in "ab"]
        return _parts(kind, colours, offsets, [0.0, 0.0])
    offsets = [(float(rng.uniform(-0.02, 0.02)), float(rng.uniform(-0.04, 0.04))) for _ in "ab"]
    return _parts(kind, colours, offsets, [float(rng.choice([-0.65, 0.65])) for _ in "ab"])


def _parts(
    kind: str, colours: list[str], offsets: list[tuple[float, float]], joints: list[float]
) -> FixtureSpec:
    return FixtureSpec(
        kind=kind,
        colours=(colours[0], colours[1]),
        offsets=(offsets[0], offsets[1]),
        joints=(joints[0], joints[1]),
    )


def _cameras(split: Split, rng: np.random.Generator) -> dict[str, CameraSpec]:
    bands = UNSEEN_AZIMUTHS if split == "unseen" else SEEN_AZIMUTHS
    low, high = bands[int(rng.integers(len(bands)))]
    azimuth = float(rng.uniform(low, high))
    return {"front": _camera(azimuth, rng), "side": _camera(azimuth - 75.0, rng)}


def _camera(azimuth: float, rng: np.random.Generator) -> CameraSpec:
    return CameraSpec(
        azimuth=azimuth,
        elevation=float(rng.uniform(33, 52)),
        distance=float(rng.uniform(0.84, 0.98)),
        fovy=float(rng.uniform(40, 45)),
        shift=(float(rng.uniform(-0.02, 0.02)), float(rng.uniform(-0.025, 0.025))),
    )


def _look(rng: np.random.Generator) -> LookSpec:
    grey = float(rng.uniform(0.35, 0.95))
    wall = float(rng.uniform(0.25, 0.9))
    floor = float(rng.uniform(0.2, 0.7))
    return LookSpec(
        table_texture=int(rng.integers(TABLE_TEXTURES)),
        table_colour=_shade(grey, 0.08, rng),
        wall_colour=_shade(wall, 0.08, rng),
        floor_colour=_shade(floor, 0.08, rng),
        arm_colour=_shade(float(rng.uniform(0.7, 0.95)), 0.03, rng),
        accent_colour=_shade(float(rng.uniform(0.15, 0.4)), 0.03, rng),
        ambient=float(rng.uniform(0.25, 0.45)),
        key_light=float(rng.uniform(0.3, 0.7)),
        key_position=(
            float(rng.uniform(0.2, 1.0)),
            float(rng.uniform(-1.0, 1.0)),
            float(rng.uniform(1.2, 2.0)),
        ),
    )


def _shade(grey: float, spread: float, rng: np.random.Generator) -> tuple[float, float, float]:
    red, green, blue = np.clip(grey + rng.uniform(-spread, spread, 3), 0.0, 1.0)
    return float(red), float(green), float(blue)


def _tint(rng: np.random.Generator) -> tuple[float, float, float]:
    red, green, blue = rng.normal(0.0, 0.03, 3)
    return float(red), float(green), float(blue)
