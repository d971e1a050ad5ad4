"""Cartesian control of the arm: closed-form joint angles for a tool that points straight down."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SHOULDER_HEIGHT = 0.24
UPPER = 0.36
FORE = 0.34
WRIST_TO_GRIP = 0.07 + 0.098
WORKSPACE_LOW = np.array([0.20, -0.30, 0.012])
WORKSPACE_HIGH = np.array([0.58, 0.30, 0.34])
OPEN_WIDTH = 0.042
"""Travel of each finger when open, metres."""


def joint_angles(grip: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the six joint angles that put the tool point at ``grip``, fingers down, yaw 0.

    The arm is a yaw joint, a planar two-link arm and a wrist that undoes both rotations, so the
    solution (elbow up) is closed. A point out of reach is moved onto the reachable sphere.

    Args:
        grip: ``(3,)`` metres, in the frame of the arm's base.

    Returns:
        ``(6,)`` radians: yaw, shoulder, elbow, wrist pitch, wrist roll, wrist tilt.
    """
    x, y, z = (float(v) for v in grip)
    yaw = math.atan2(y, x)
    reach = math.hypot(x, y)
    height = z + WRIST_TO_GRIP - SHOULDER_HEIGHT
    distance = math.hypot(reach, height)
    distance = min(max(distance, 0.12), UPPER + FORE - 1e-4)
    cos_elbow = (distance**2 - UPPER**2 - FORE**2) / (2 * UPPER * FORE)
    elbow = math.acos(min(1.0, max(-1.0, cos_elbow)))
    # Angles are from the vertical; a positive pitch leans forward.
    lean = math.atan2(reach, height)
    inner = math.atan2(FORE * math.sin(elbow), UPPER + FORE * math.cos(elbow))
    shoulder = lean - inner
    pitch = math.pi - shoulder - elbow
    # With the hand pointing down its own z axis is reversed, so its roll adds to the yaw.
    return np.array([yaw, shoulder, elbow, pitch, yaw, 0.0])


class CartesianController:
    """Turns actions into joint targets.

    An action is ``(4,)`` in [-1, 1]: a step of the tool point along x, y, z and the gripper
    (−1 open, +1 closed). The commanded point may lead the real one by ``lead`` metres at most, so
    that pushing against something does not wind up.
    """

    def __init__(self, *, step: float = 0.035, lead: float = 0.05) -> None:
        self.step = step
        self.lead = lead
        self.target = np.zeros(3)
        self._joints = np.zeros(6)

    def reset(self, grip: NDArray[np.float64]) -> NDArray[np.float64]:
        """Start at a tool point, ``(3,)`` metres; returns its joint angles, ``(6,)``."""
        self.target = np.array(grip, float)
        self._joints = joint_angles(self.target)
        return self._joints

    def command(
        self, action: NDArray[np.float32], grip: NDArray[np.float64], *, substeps: int
    ) -> tuple[NDArray[np.float64], float]:
        """Return ``(substeps, 6)`` joint targets, interpolated, and the finger target in metres.

        Args:
            action: ``(4,)`` in [-1, 1].
            grip: Where the tool point is now, ``(3,)`` metres.
            substeps: Number of simulation steps that the action lasts.
        """
        move = np.clip(np.asarray(action[:3], float), -1.0, 1.0) * self.step
        target = np.clip(self.target + move, WORKSPACE_LOW, WORKSPACE_HIGH)
        self.target = np.clip(target, grip - self.lead, grip + self.lead)
        before, self._joints = self._joints, joint_angles(self.target)
        ramp = np.linspace(1 / substeps, 1.0, substeps)[:, None]
        closing = (float(np.clip(action[3], -1.0, 1.0)) + 1.0) / 2.0
        # Closed means a little past touching: that is where the grasp force comes from.
        finger = OPEN_WIDTH * (1.0 - closing) - 0.006 * closing
        return before + ramp * (self._joints - before), finger
