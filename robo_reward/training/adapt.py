"""Adaptation: a few demonstrations of a new task fine-tune a compact model, in minutes on a CPU.

The network goes on from its weights at a low rate, on batches of the demonstrations with their
negatives, mixed with old data where there are any (rehearsal). What was held out is checked every
few steps; the best weights are kept, and those before the first step are among the candidates.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from robo_reward.datasets.episode import Episode
from robo_reward.errors import ConfigError
from robo_reward.models import density
from robo_reward.models.base import RewardModel
from robo_reward.models.compact import CompactModel
from robo_reward.models.compact_network import CompactNetwork

from .batches import BatchConfig
from .density import draw_frames, fit_density, vary
from .episode_batches import mixed_source
from .examples import Example, data_hash, prepare
from .hold_out import HeldOutCheck, Judged, Split, better, hold_out
from .negatives import NegativeConfig
from .shards import Shard
from .trainer import TrainConfig, Trainer, save

REHEARSED_FRAMES = 2000
"""Old frames that stay familiar, where old data are rehearsed."""
VARIED = 3
"""Times that the frames of the demonstrations are varied for the density: they are few."""

OnCheck = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptOptions:
    """How a model is adapted.

    Attributes:
        steps: Optimiser steps at most.
        minutes: Time at most, counted from the first step.
        check_every: Steps between checks.
        patience: Checks without a better figure after which it stops.
        rate: Peak learning rate, a sixth of that of training.
        text_rate: Rate of the text encoder as a share of ``rate``; 0 freezes it.
        statistics: Whether batch normalisation learns the statistics of the new images.
        clips: Clips of the demonstrations in a batch.
        rehearsed: Old episodes in a batch, where there are any.
        negatives: What is drawn how often.
        cameras: Cameras to learn from; all when empty.
        seed: Of hold-out, batches and augmentation.

    Raises:
        ConfigError: A number is out of range.
    """

    steps: int = 400
    minutes: float = 8.0
    check_every: int = 20
    patience: int = 6
    rate: float = 3e-4
    text_rate: float = 0.1
    statistics: bool = True
    clips: int = 16
    rehearsed: int = 16
    negatives: NegativeConfig = field(default_factory=NegativeConfig)
    cameras: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing would be learned."""
        for name in ("steps", "check_every", "patience", "clips"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not self.minutes > 0 or not self.rate > 0:
            raise ConfigError(
                f"minutes and rate must be > 0, got {self.minutes:g} and {self.rate:g}"
            )
        if not 0 <= self.text_rate <= 1 or self.rehearsed < 0:
            raise ConfigError(
                f"text_rate must be in [0, 1] and rehearsed >= 0, got {self.text_rate:g} "
                f"and {self.rehearsed}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adapted:
    """What came of it.

    Attributes:
        base: Id of the model that was adapted.
        model: Id of the model that was written; the same where nothing was better.
        improved: Whether it is another one.
        step: Step whose weights were kept; 0 for those before the first.
        steps: Steps that were made.
        seconds: How long they took, checks included.
        before: Figures of the base on what was held out, see ``HeldOutCheck``.
        after: Figures of what was written.
        checks: Figures by step.
        held_out: What was held out, in words.
        examples: The held-out examples.
        said_before: What the base said of them.
        said_after: What the written model says of them.
        data: Hash of all the examples.
        episodes: Number of episodes.
        frames: Number of frames, held-out ones too.
    """

    base: str
    model: str
    improved: bool
    step: int
    steps: int
    seconds: float
    before: dict[str, float]
    after: dict[str, float]
    checks: dict[int, dict[str, float]]
    held_out: str
    examples: list[Example]
    said_before: list[Judged]
    said_after: list[Judged]
    data: str
    episodes: int
    frames: int


def adapt(
    model: RewardModel,
    episodes: Iterable[Episode],
    *,
    folder: Path,
    options: AdaptOptions,
    rehearsal: Sequence[Shard] = (),
    on_check: OnCheck | None = None,
) -> Adapted:
    """Fine-tune a compact model on a few episodes and write the better of before and after.

    Args:
        model: The model as it is; it is not changed.
        episodes: Demonstrations, failures among them where there are any.
        folder: Where the adapted model goes.
        options: How.
        rehearsal: Old data to keep known.
        on_check: Called with (step, figures) after every check.

    Raises:
        ConfigError: The model is of a kind that cannot be adapted.
        DatasetError: There is nothing to learn from.
        InstructionError: An episode has no instruction.
    """
    compact = adaptable(model)
    size = compact.network.config.image_size
    examples = prepare(episodes, size=size, cameras=options.cameras)
    split = hold_out(examples, seed=options.seed)
    check = HeldOutCheck(split.held_out, seed=options.seed)
    network = compact.network.cpu()
    before, said = check(network, compact.tokenizer), check.judge(network, compact.tokenizer)
    source = mixed_source(
        split.train,
        rehearsal,
        clips=BatchConfig(episodes=options.clips),
        rollouts=BatchConfig(episodes=options.rehearsed),
        negatives=options.negatives,
        seed=options.seed,
    )
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        trainer = Trainer(source, config=_config(compact.folder, options), folder=Path(work))
        checks, step = _descend(trainer, check, before, options, folder, on_check)
    seconds = time.perf_counter() - began
    if not step:
        for name in ("config.json", "model.safetensors", "tokenizer.json", density.FILE):
            if (compact.folder / name).is_file():
                shutil.copyfile(compact.folder / name, folder / name)
    elif compact.density is not None:
        _fit_density(folder, split, rehearsal, seed=options.seed)
    made = CompactModel.from_pretrained(folder, device="cpu")
    return Adapted(
        base=compact.model_id,
        model=made.model_id,
        improved=step > 0,
        step=step,
        steps=max(checks, default=0),
        seconds=seconds,
        before=before,
        after=check(made.network, made.tokenizer),
        checks={0: before, **checks},
        held_out=split.how,
        examples=split.held_out,
        said_before=said,
        said_after=check.judge(made.network, made.tokenizer),
        data=data_hash(examples),
        episodes=len({one.episode for one in examples}),
        frames=sum(len(one.images) for one in examples),
    )


def adaptable(model: RewardModel) -> CompactModel:
    """Return the model, if it is of the kind that can be adapted.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(model, CompactModel):
        raise ConfigError(f"adapt knows compact models only, and {model.model_id} is none")
    return model


def _config(base: Path, options: AdaptOptions) -> TrainConfig:
    return TrainConfig(
        steps=options.steps,
        seed=options.seed,
        init=str(base),
        rate=options.rate,
        text_rate=options.text_rate,
        statistics=options.statistics,
        warmup=min(20, options.steps),
        average=0.97,
        report_every=options.check_every,
        checkpoint_every=10 * options.steps,  # minutes of work are not worth one
    )


def _descend(
    trainer: Trainer,
    check: HeldOutCheck,
    before: dict[str, float],
    options: AdaptOptions,
    folder: Path,
    on_check: OnCheck | None,
) -> tuple[dict[int, dict[str, float]], int]:
    """Train until nothing gets better; the best weights are in ``folder``, its step is returned."""
    deadline = time.monotonic() + 60 * options.minutes
    checks: dict[int, dict[str, float]] = {}
    best, kept = before, 0
    while trainer.step < options.steps and time.monotonic() < deadline:
        trainer.run(until=trainer.step + options.check_every)
        # As it would be saved: half precision may take back what a step has won.
        rounded = deepcopy(trainer.averaged()).half().float()
        figures = check(rounded, trainer.tokenizer)
        checks[trainer.step] = figures
        if on_check is not None:
            on_check(trainer.step, figures)
        if better(figures, best, before):
            best, kept = figures, trainer.step
            save(trainer.averaged(), trainer.tokenizer, folder)
        elif trainer.step - kept >= options.patience * options.check_every:
            break
    return checks, kept


def _fit_density(folder: Path, split: Split, rehearsal: Sequence[Shard], *, seed: int) -> None:
    """Tell strange frames from those of the demonstrations, and of what was rehearsed."""
    old = [draw_frames(rehearsal, frames=REHEARSED_FRAMES, seed=seed)] if rehearsal else []
    # The last ones say how far familiar frames lie apart: they are the held-out ones.
    new = [one.images for part in (split.train, split.held_out) for one in part]
    images = np.concatenate(old + [vary(one, seed=seed + n) for one in new for n in range(VARIED)])
    network = CompactNetwork.from_pretrained(str(folder)).float().eval()
    made = fit_density(network, images)
    made.save(folder, fitted_on=f"{len(images)} frames of {len(new)} demonstrations")
