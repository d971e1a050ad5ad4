"""Tiny random checkpoints, built once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Tiny = Callable[[str], Path]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Folder of a random checkpoint: ``tiny("qwen3_vl")``."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from .tiny_vlm import build

    built: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in built:
            built[kind] = build(kind, tmp_path_factory.mktemp(kind))
        return built[kind]

    return of
