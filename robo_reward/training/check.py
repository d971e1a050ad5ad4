"""The running check of a training: errors and ranking on episodes that are not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from robo_reward.models.compact import encode_text
from robo_reward.models.compact_network import CompactNetwork, expected_progress, normalised

from .batches import BatchConfig, Batches
from .shards import Shard

CHECK_BATCHES = 6


def check(
    network: CompactNetwork,
    tokenizer: Any,
    *,
    shards: Sequence[Shard],
    without_families: tuple[str, ...] = (),
) -> dict[str, float]:
    """Return errors on fixed, unvaried batches.

    Keys: ``own_error`` and ``other_error`` (mean absolute error of progress under the episode's own
    and under other instructions), ``done_accuracy`` (mean of the accuracies on done and on not
    done), ``pointer_error`` (median distance of the target pointer, in image widths).
    """
    config = BatchConfig(augment=False, late=0.2, without_families=without_families)
    limit = network.config.max_tokens
    batches = Batches(
        shards, lambda text: encode_text(tokenizer, text, limit), config=config, seed=10**6
    )
    own, other, scores, truths, astray = [], [], [], [], []
    with torch.inference_mode():
        for number in range(CHECK_BATCHES):
            batch = batches.draw(number)
            images = normalised(torch.from_numpy(batch.images))
            episodes, queries, length = batch.tokens.shape
            text = network.text(torch.from_numpy(batch.tokens).view(-1, length))
            text = text.view(episodes, queries, 4, -1).repeat_interleave(2, 0)
            judged = network.judge(network.encoder(images), text)
            progress = expected_progress(judged.bins)[0].view(-1, queries).numpy()
            error = np.abs(progress - batch.progress)
            own.append(error[:, 0])
            other.append(error[:, 1:].ravel())
            scores.append(judged.done.mean(1).numpy())
            truths.append(batch.done.ravel())
            where = judged.pointers[:, 0].softmax(-1) @ network.grid
            gap = np.linalg.norm(where.numpy() - batch.points.reshape(-1, 3, 2)[:, 0], axis=1) / 2
            astray.append(gap[np.isfinite(gap)])
    said, done = np.concatenate(scores) > 0, np.concatenate(truths) > 0.5
    return {
        "own_error": float(np.concatenate(own).mean()),
        "other_error": float(np.concatenate(other).mean()),
        "done_accuracy": float((said[done].mean() + 1.0 - said[~done].mean()) / 2),
        "pointer_error": float(np.median(np.concatenate(astray))),
    }
