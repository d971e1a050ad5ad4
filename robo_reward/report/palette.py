"""One colour per signal, the same in the report, the overlay and the plots."""

from __future__ import annotations

ON_LIGHT = {
    "progress": "#0b6fb8",
    "progress_delta": "#c2570c",
    "done": "#1a8a4a",
    "contrastive": "#8b3fc4",
    "uncertainty": "#6b7280",
    "wrong": "#c8324a",
}
"""On white, at least 4 : 1 in contrast."""

ON_DARK = {
    "progress": "#56b8ff",
    "progress_delta": "#ffa95c",
    "done": "#4fdc8b",
    "contrastive": "#cf9bff",
    "uncertainty": "#9aa7b4",
    "wrong": "#ff7d8f",
}
"""On near-black."""

MODELS = ("progress", "progress_delta", "contrastive", "done", "wrong", "uncertainty")
"""Order in which the same colours tell models apart, where curves of several stand together."""

WORDS = {
    "progress": "progress",
    "progress_delta": "delta",
    "done": "done",
    "contrastive": "contrastive",
    "uncertainty": "uncertainty",
}
"""Short names for labels beside curves."""
