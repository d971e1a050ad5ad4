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
    from .tiny_vlm import build, build_robometer, build_rynnvalue

    headed = {"robometer": build_robometer, "rynnvalue": build_rynnvalue}
    built: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in built:
            folder = tmp_path_factory.mktemp(kind)
            if kind in headed:
                built[kind] = headed[kind](of("qwen3_vl"), folder)
            else:
                built[kind] = build(kind, folder)
        return built[kind]

    return of
