"""The model card: what was trained, on what, by which command, and how well the check went."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from robo_reward.models.compact_network import CompactNetwork

from .examples import Example
from .trainer import TrainConfig

_TEMPLATE = """\
---
library_name: robo-reward
license: apache-2.0
tags: [robotics, reward-model, reinforcement-learning]
---
# {name}

A compact vision-language reward model of robo-reward: progress, progress-delta, done, contrastive
and uncertainty from one encoding per frame and a sentence.

| | |
|---|---|
| parameters | {parameters:,} |
| input | one RGB image, {size} × {size} px, and an instruction in English |
| data | {episodes} rollouts of the table-top suite, {frames:,} frames, made by the command below |
| data hash | `{data}` |
{recorded}| git revision | `{revision}` |
| command | `{command}` |
| begun from | {begun_from} |
| optimiser steps | {steps} |
| time | {minutes:.0f} min on {device} |
| licence | code, data and weights: Apache-2.0 |

## The check on held-out seeds of the same distribution

{check}

The figures that count are those of `robo-reward eval-reward`, on combinations and cameras that were
never trained on.

## What it is not

It knows one simulated arm, its table, and the objects of this suite. On other scenes its
uncertainty rises but its numbers mean little until it is adapted.

## Settings

```
{settings}
```
"""


def write_card(
    folder: Path,
    network: CompactNetwork,
    *,
    config: TrainConfig,
    begun_from: str,
    shards: Sequence[Path],
    frames: int,
    episodes: int,
    recorded: Sequence[Example] = (),
    command: str,
    minutes: float,
    device: str,
    figures: Mapping[str, float],
) -> Path:
    """Write ``README.md`` beside the weights; returns its path."""
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in figures.items())
    settings = "\n".join(f"{name}: {value}" for name, value in asdict(config).items())
    text = _TEMPLATE.format(
        name=folder.name,
        parameters=sum(p.numel() for p in network.parameters()),
        size=network.config.image_size,
        episodes=episodes,
        frames=frames,
        data=data_hash(shards),
        recorded=_recorded(recorded, config),
        revision=git_revision(),
        command=command,
        begun_from=begun_from,
        steps=config.steps,
        minutes=minutes,
        device=device,
        check=f"| | |\n|---|---|\n{rows}" if rows else "None was made.",
        settings=settings,
    )
    path = folder / "README.md"
    path.write_text(text)
    return path


def _recorded(examples: Sequence[Example], config: TrainConfig) -> str:
    if not examples:
        return ""
    episodes = len({one.episode for one in examples})
    frames = sum(len(one.images) for one in examples)
    return f"| recorded episodes | {episodes}, {frames:,} frames, hash `{config.recorded}` |\n"


def data_hash(shards: Sequence[Path]) -> str:
    """Hash of what the shards hold besides pixels: scenes, goals, wordings and facts."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(shards):
        digest.update(path.read_bytes())
        digest.update(path.with_suffix(".facts.npy").read_bytes())
    return digest.hexdigest()


def git_revision() -> str:
    """Revision of the checkout that this runs from; ``"unknown"`` for an installed package."""
    here = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()
