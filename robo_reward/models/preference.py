"""A reward learned from preferences between frames: the form of RL-VLM-F (arXiv 2402.03681).

Somebody says of pairs of frames of one task which of them shows more of it done: a vision-language
model, any reward model's ``contrastive``, or the truth. An ensemble of three small networks on
frozen features, each ending in a tanh, is fitted to that as Bradley and Terry have it,
P(second is further) = σ(r₂ - r₁); pairs that the judge leaves open are left out. The judge is
needed for training only; here answers a network of milliseconds.

``progress`` is (1 + r) / 2 with r the mean over the ensemble, and over cameras: its order is what
was learned, while its zero and its scale are whatever tanh made of them, so that 0.5 is not half of
the way. ``progress_delta`` is a difference of it; ``contrastive`` the mean over the ensemble of
2·σ(r_new - r_ref) - 1, antisymmetric; ``uncertainty`` the standard deviation of r over the
ensemble, at most 1, over cameras the greatest. No ``done``: nobody was asked when a task is.
Licence: Apache-2.0, and that of the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robo_reward.models.base import Capabilities, Feature, Instants, ModelCard, ScoreArrays
from robo_reward.query import Query

from .headed import MAX_VIEWS, HeadedModel

NAME = "rl-vlm-f"
SIGNALS = ("progress", "progress_delta", "contrastive", "uncertainty")


class PreferenceReward(HeadedModel):
    """Reads a folder of ``robo-reward train-reward --preset preference``; see ``HeadedModel``."""

    named = NAME
    preset = "preference"
    card = ModelCard(
        capabilities=Capabilities(signals=SIGNALS, max_views=MAX_VIEWS, licence="Apache-2.0"),
        weights="made by train-reward --preset preference",
    )

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[Instants],
    ) -> ScoreArrays:
        rows = len(queries)
        old = [before or now for before, now in zip(reference, newest, strict=True)]
        # One call for both, so that a frame scores the same as newest and as reference.
        said = [logits.tanh() for logits in self._asked([*queries, *queries], [*newest, *old])]
        now = np.stack([r.mean(0).numpy() for r in said[:rows]])
        before = np.stack([r.mean(0).numpy() for r in said[rows:]])
        spread = [float(r.std(1, unbiased=False).max()) for r in said[:rows]]
        progress = (0.5 + 0.5 * now.mean(1)).astype(np.float32)
        earlier = (0.5 + 0.5 * before.mean(1)).astype(np.float32)
        return ScoreArrays(
            progress=progress,
            progress_delta=progress - earlier,
            done=np.full(rows, np.nan, np.float32),
            # 2·σ(x) - 1 is tanh(x / 2).
            contrastive=np.tanh((now - before) / 2.0).mean(1).astype(np.float32),
            uncertainty=np.array(spread, np.float32),
        )
