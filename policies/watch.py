"""Counts what the learner's episodes looked like to the reward model, for logs and rows."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

KEYS = {
    "reward/progress": "progress",
    "reward/delta": "progress_delta",
    "reward/contrastive": "contrastive",
    "reward/done_prob": "done",
}
"""Names in TensorBoard and the signal each of them averages."""


class EpisodeWatch(BaseCallback):
    """Reads rewards and scores of every step; ``take`` returns what came since the last."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes = 0
        self._return = 0.0
        self._progress = math.nan
        self._sums: dict[str, list[float]] = defaultdict(list)

    def _on_step(self) -> bool:
        # One environment: all learners here play one at a time.
        info = self.locals["infos"][0]
        # What the learner is paid may be a scaled copy of the reward; the terms are the reward.
        paid = float(self.locals["rewards"][0])
        reward = float(info.get("reward_terms", {}).get("total", paid))
        self._return += reward if math.isfinite(reward) else 0.0
        self._see(info.get("score"))
        if self.locals["dones"][0]:
            self.episodes += 1
            self._sums["return"].append(self._return)
            self._sums["progress at end"].append(self._progress)
            self._sums["done"].append(float(not info.get("TimeLimit.truncated", False)))
            self._return = 0.0
        return True

    def _see(self, score: dict[str, Any] | None) -> None:
        if score is None:
            return
        self._sums["reward/stale_frac"].append(float(score["status"] != "ok"))
        for key, signal in KEYS.items():
            self._sums[key].append(score["signals"][signal])
        self._sums["reward/latency_ms"].append(1e3 * score["identity"]["total_s"])
        if score["status"] == "ok":
            self._progress = score["signals"]["progress"]

    def take(self) -> dict[str, float]:
        """Return means since the last call and start anew; NaN where nothing was seen."""
        sums, self._sums = self._sums, defaultdict(list)
        means: dict[str, float] = defaultdict(lambda: math.nan)
        for key, values in sums.items():
            known = np.asarray(values)[np.isfinite(values)]
            means[key] = float(known.mean()) if len(known) else math.nan
        return means
