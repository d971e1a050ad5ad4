"""Weights on disk: safetensors, whole or not at all, readable by whoever may read the folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_weights(
    tensors: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors to a file.

    Args:
        tensors: By name.
        path: Replaced when everything is written.
        metadata: Text for the file's head; one entry where the same content must give the same
            bytes, because safetensors writes several in any order.
    """
    part = path.with_suffix(".part")
    save_file(dict(tensors), part, metadata=dict(metadata or {"format": "pt"}))
    # Made for the user alone; a node of another user must be able to read the folder.
    part.chmod(0o644)
    os.replace(part, path)
