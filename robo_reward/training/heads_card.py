"""The card of a small model on frozen features: what it learned from, and how the check went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .card import git_revision
from .classifier import HeadsTrained
from .examples import Example, data_hash
from .fit_heads import FitConfig

_TEMPLATE = """\
---
library_name: robo-reward
license: apache-2.0
tags: [robotics, reward-model, reinforcement-learning]
---
# {name}

{what} It reads {features} features of a frozen encoder, `{encoder}` ({size} × {size} px).

| | |
|---|---|
| learned from | {learned_from} |
| data hash | `{data}` |
| held out | {held_out} |
| git revision | `{revision}` |
| command | `{command}` |
| time | {seconds:.0f} s |

## The check on what was held out

| | |
|---|---|
{check}

## What it is not

It knows the task, the camera and the light that it was trained with. Look at its false answers,
record more frames like them, and train it again. The figures that count are those of `robo-reward
eval-reward` on episodes of other days.

## Settings

```
{settings}
```
"""
WHAT = {
    "classifier": "A success classifier: whether the goal holds, and how far its heads agree.",
    "rl-vlm-f": "A reward learned from preferences between frames: which of two is further.",
}


def write_heads_card(
    folder: Path,
    trained: HeadsTrained,
    examples: Sequence[Example],
    *,
    fit: FitConfig,
    command: str,
    seconds: float,
) -> Path:
    """Write ``README.md`` beside the weights; returns its path."""
    encoder = trained.features.encoder
    text = _TEMPLATE.format(
        name=folder.parent.name,
        what=WHAT[trained.heads.config.reward_model],
        features=trained.features.kind,
        encoder=encoder.name if encoder.compact is None else encoder.compact.model_id,
        size=encoder.size,
        learned_from=trained.learned_from,
        data=data_hash(examples),
        held_out=trained.held_out,
        revision=git_revision(),
        command=command,
        seconds=seconds,
        check="\n".join(f"| {name} | {value:.4g} |" for name, value in trained.figures.items()),
        settings="\n".join(f"{name}: {value}" for name, value in asdict(fit).items()),
    )
    path = folder / "README.md"
    path.write_text(text)
    return path
