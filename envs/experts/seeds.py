"""Seeds of the splits, the same for every suite."""

from __future__ import annotations

SEED_BASES: dict[str, int] = {
    "train": 1_000_000_000,
    "seen": 2_000_000_000,
    "unseen": 3_000_000_000,
    "paraphrase": 4_000_000_000,
}
"""First seed of each split: no seed is used by two of them."""
