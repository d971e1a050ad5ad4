"""The presets classifier and preference of ``train-reward``: small heads on a frozen encoder."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from robo_reward.errors import ConfigError, require

from .common import Result, Saving

if TYPE_CHECKING:
    from robo_reward.datasets.episode import Episode
    from robo_reward.models import RewardModel
    from robo_reward.models.frozen_features import FrozenFeatures
    from robo_reward.training.classifier import HeadsTrained
    from robo_reward.training.examples import Example
    from robo_reward.training.fit_heads import FitConfig

    from .train_reward import TrainReward

BOTH = (
    "preset",
    "data",
    "dataset",
    "instruction",
    "encoder",
    "features",
    "seed",
    "threads",
    "device",
)
JUDGED_SIDE = 224
"""Side up to which a judge is shown pictures, pixels: a language model sees little in 96."""
FLAGS = {"classifier": (*BOTH, "frames"), "preference": (*BOTH, "pairs", "judge")}
"""Preset → flags that mean something to it, beside those of every verb."""


def train_heads(verb: TrainReward) -> Result:
    """Read recordings, train, and write the folder and its card."""
    _check(verb)
    torch = require("torch", extra="train")
    from robo_reward.models.frame_encoder import COMPACT, FrameEncoder
    from robo_reward.models.frozen_features import FrozenFeatures

    torch.set_num_threads(verb.threads)
    encoder = FrameEncoder(verb.encoder or COMPACT, device=verb.device)
    features = FrozenFeatures(encoder, verb.features)
    with verb.open_output() as out:
        examples = _examples(verb, features)
        began = time.perf_counter()
        train = _classifier if verb.preset == "classifier" else _preference
        trained, fit = train(verb, features, examples)
        seconds = time.perf_counter() - began
        model = out.path / "model"
        trained.save(model)
        from robo_reward.training.heads_card import write_heads_card

        command = "robo-reward " + shlex.join(sys.argv[1:])
        card = write_heads_card(model, trained, examples, fit=fit, command=command, seconds=seconds)
        out.write_json("metrics.json", trained.figures)
    return {**trained.figures, "learned_from": trained.learned_from, "held_out": trained.held_out,
            "minutes": seconds / 60, "card": str(card), "path": str(model)}  # fmt: skip


def _check(verb: TrainReward) -> None:
    """Refuse flags that would be passed over in silence."""
    known = {*FLAGS[verb.preset], *(field.name for field in fields(Saving))}
    strange = [
        "--" + field.name.replace("_", "-")
        for field in fields(verb)
        if field.name not in known and getattr(verb, field.name) != field.default
    ]
    if strange:
        raise ConfigError(f"--preset {verb.preset} knows no {', '.join(strange)}")


def _examples(verb: TrainReward, features: FrozenFeatures) -> list[Example]:
    from robo_reward.datasets.sources import open_episodes
    from robo_reward.training.head_frames import read_examples

    found: list[Example] = []
    size = 0  # that of the first episode holds for all
    for path in verb.dataset or (verb.data,):
        for episode in open_episodes(path, instruction=verb.instruction):
            size = size or _side(verb, features, episode)
            found += read_examples([episode], size=size)
    return found


def _side(verb: TrainReward, features: FrozenFeatures, episode: Episode) -> int:
    """Return the side at which pictures are kept: what the encoder takes, or the judge can use."""
    own = features.encoder.size
    if not verb.judge:
        return own
    native = min(int(min(images.shape[1:3])) for images in episode.images.values())
    return max(own, min(native, JUDGED_SIDE))


def _classifier(
    verb: TrainReward, features: FrozenFeatures, examples: list[Example]
) -> tuple[HeadsTrained, FitConfig]:
    from robo_reward.training.classifier import ClassifierOptions, train_classifier

    options = ClassifierOptions(frames=verb.frames)
    options = replace(options, fit=replace(options.fit, seed=verb.seed))
    return train_classifier(features, examples, options=options), options.fit


def _preference(
    verb: TrainReward, features: FrozenFeatures, examples: list[Example]
) -> tuple[HeadsTrained, FitConfig]:
    from robo_reward.training.preference import PreferenceOptions, train_preference

    options = PreferenceOptions(pairs=verb.pairs)
    options = replace(options, fit=replace(options.fit, seed=verb.seed))
    judge = _judge(verb)
    try:
        return train_preference(features, examples, options=options, judge=judge), options.fit
    finally:
        if judge is not None:
            judge.close()


def _judge(verb: TrainReward) -> RewardModel | None:
    if not verb.judge:
        return None
    from robo_reward.models import load_model

    return load_model(verb.judge, device=verb.device)
