"""The kinds of capture: a device or stream, a video file, a simulated scene, a followed scene."""

from __future__ import annotations

from .base import Capture, Shot

__all__ = ["Capture", "Shot"]
