"""Episodes as batches: labels reach their rows, and what nobody knows costs nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from robo_reward.datasets.episode import Episode  # noqa: E402
from robo_reward.errors import ConfigError, DatasetError, InstructionError  # noqa: E402
from robo_reward.models.compact_network import (  # noqa: E402
    CompactConfig,
    CompactNetwork,
    Judgement,
)
from robo_reward.training.batches import BatchConfig  # noqa: E402
from robo_reward.training.episode_batches import EpisodeBatches, Mixed  # noqa: E402
from robo_reward.training.examples import Example, data_hash, prepare  # noqa: E402
from robo_reward.training.losses import LossConfig, Targets, total_loss  # noqa: E402
from robo_reward.training.negatives import NegativeConfig  # noqa: E402
from robo_reward.training.trainer import TrainConfig, Trainer  # noqa: E402

SMALL = CompactConfig(image_size=48, widths=(8, 16, 16), map_width=16, text_width=32, trunk=32)


def moving(number: int, *, frames: int = 12, **changes: object) -> Episode:
    """A bright square that moves to the right."""
    images = np.full((frames, 60, 80, 3), 40 + number, np.uint8)
    for t in range(frames):
        images[t, 20:35, 8 + 4 * t : 23 + 4 * t] = 250
    made = Episode(
        id=f"e{number}", instruction="move the square", images={"front": images}, success=True
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def encode(text: str) -> list[int]:
    return [2 + ord(letter) % 200 for letter in text][:20]


def source(examples: list[Example], *, queries: int = 4, **shares: float) -> EpisodeBatches:
    return EpisodeBatches(
        examples,
        encode,
        config=BatchConfig(episodes=8, queries=queries, augment=False),
        negatives=replace(NegativeConfig(), **shares),
        seed=0,
    )


def test_a_batch_holds_what_the_trainer_takes() -> None:
    examples = prepare([moving(0), moving(1)], size=48)
    batches = source(examples)
    batch, again = batches.draw(3), batches.draw(3)
    assert batch.images.shape == (16, 48, 48, 3)
    assert batch.tokens.shape[:2] == (8, 4)
    assert batch.progress.shape == batch.done.shape == (16, 4)
    assert batch.points.shape == (16, 4, 3, 2)
    assert np.isnan(batch.points).all()
    assert np.isnan(batch.further).all(), "both succeed alike"
    for name in type(batch).__slots__:
        np.testing.assert_array_equal(getattr(batch, name), getattr(again, name))
    assert not np.array_equal(batch.images, batches.draw(4).images)
    known = {image.tobytes(): p for one in examples
             for image, p in zip(one.images, one.clip.progress, strict=True)}  # fmt: skip
    alone = source(examples, stagnation=0.0).draw(0)
    own = [known[image.tobytes()] for image in alone.images]
    np.testing.assert_array_equal(own, alone.progress[:, 0])


def test_other_instructions_of_the_data_are_false_here() -> None:
    examples = prepare([moving(0), moving(1, instruction="ring the bell")], size=48)
    batch = source(examples, queries=12, counterfactual=0.0).draw(0)
    bell = encode("ring the bell")
    asked = [
        (i, j)
        for i in range(8)
        for j in range(12)
        if batch.tokens[i, j, : len(bell)].tolist() == bell
    ]
    wrong = [(i, j) for i, j in asked if not np.array_equal(batch.tokens[i, 0], batch.tokens[i, j])]
    for i, j in wrong:
        assert (batch.progress[2 * i : 2 * i + 2, j] == 0).all()
        assert (batch.done[2 * i : 2 * i + 2, j] == 0).all()


def test_a_counterfactual_with_its_truth_is_asked_with_it() -> None:
    told = {"instruction": "leave the square", "progress": [0.25] * 12, "done": [False] * 12}
    examples = prepare([moving(0, meta={"counterfactuals": [told]})], size=48)
    batch = source(examples, mismatched=0.0).draw(0)
    ids = encode("leave the square")
    rows = [
        (i, j) for i in range(8) for j in range(4) if batch.tokens[i, j, : len(ids)].tolist() == ids
    ]
    assert len(rows) > 5
    assert all((batch.progress[2 * i : 2 * i + 2, j] == 0.25).all() for i, j in rows)


def test_a_failure_is_ordered_below_a_success_of_the_same_task() -> None:
    examples = prepare([moving(0), moving(1, success=False)], size=48)
    batch = source(examples, preference=1.0).draw(0)
    assert (batch.further[:, 0] == 1.0).all()
    assert np.isnan(batch.further[:, 1:]).all()
    np.testing.assert_array_equal(batch.images[0], examples[1].images[-1])
    np.testing.assert_array_equal(batch.images[1], examples[0].images[-1])
    assert np.isnan(batch.progress[0, 0])
    assert batch.done[:2, 0].tolist() == [0.0, 1.0]
    without = source(examples, preference=0.0)
    assert np.isnan(without.draw(0).further).all()
    other = prepare([moving(0), moving(1, success=False, instruction="ring the bell")], size=48)
    assert np.isnan(source(other, preference=1.0).draw(0).further).all()


def test_failures_are_drawn_by_their_share() -> None:
    examples = prepare([moving(0), moving(1, success=False)], size=48)
    never = source(examples, failures=0.0, preference=0.0)
    assert all(np.isfinite(never.draw(i).progress[:, 0]).all() for i in range(4))
    some = source(examples, failures=0.5, preference=0.0)
    unknown = np.mean([np.isnan(some.draw(i).progress[:, 0]).mean() for i in range(8)])
    assert 0.25 < unknown < 0.75


def test_mixed_batches_hold_both() -> None:
    first = source(prepare([moving(0)], size=48))
    second = source(prepare([moving(9, instruction="a much longer sentence")], size=48))
    batch = Mixed([first, second]).draw(2)
    assert batch.images.shape[0] == 32
    assert batch.tokens.shape[0] == len(batch.further) == 16
    np.testing.assert_array_equal(batch.images[16:], second.draw(2).images)


def judgement(network: CompactNetwork, rows: int) -> Judgement:
    torch.manual_seed(1)
    return Judgement(
        torch.randn(rows, 32, requires_grad=True),
        torch.randn(rows, 5, 26, requires_grad=True),
        torch.randn(rows, 5, requires_grad=True),
        torch.randn(rows, 3, 36, requires_grad=True),
    )


def targets(progress: list[float], done: list[float], further: list[float]) -> Targets:
    count = len(progress)
    return Targets(
        torch.tensor(progress),
        torch.tensor(done),
        torch.full((count, 3, 2), float("nan")),
        torch.tensor(further),
        1,
    )


def test_what_nobody_knows_costs_nothing() -> None:
    torch.manual_seed(0)
    network = CompactNetwork.of(SMALL)
    nan = float("nan")
    said = judgement(network, 4)
    config = LossConfig(nearness=0.5)
    loss, parts = total_loss(
        network,
        said,
        targets([0.2, nan, 0.4, nan], [0.0, nan, 1.0, nan], [nan, nan]),
        config=config,
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(np.isfinite(value) for value in parts.values())
    for part in (said.bins, said.done):
        assert part.grad is not None
        assert torch.isfinite(part.grad).all()
        assert (part.grad[[1, 3]] == 0).all()
        assert (part.grad[[0, 2]] != 0).any()
    assert parts["order"] == parts["nearness"] == 0.0
    alone, _ = total_loss(
        network,
        judgement(network, 4),
        targets([nan] * 4, [nan] * 4, [nan, nan]),
        config=config,
    )
    assert float(alone.detach()) == 0.0


def test_a_preference_is_learned_where_progress_is_unknown() -> None:
    torch.manual_seed(0)
    network = CompactNetwork.of(SMALL)
    said = judgement(network, 2)
    nan = float("nan")
    asked = [targets([nan, 1.0], [nan, nan], [one]) for one in (0.0, 1.0)]
    orders = [total_loss(network, said, one, config=LossConfig())[1]["order"] for one in asked]
    logit = float(network.order_logit(said.joint[1:], said.joint[:1]).detach())
    assert orders[0] - orders[1] == pytest.approx(logit, abs=1e-4)


def test_a_trainer_learns_from_episodes(tmp_path: Path) -> None:
    examples = prepare([moving(i) for i in range(3)], size=48)
    config = TrainConfig(
        steps=60, warmup=2, report_every=5, network=SMALL, batch=BatchConfig(episodes=6, queries=3)
    )

    def make(encode: object) -> EpisodeBatches:
        return EpisodeBatches(
            examples,
            encode,  # type: ignore[arg-type]
            config=config.batch,
            negatives=NegativeConfig(),
            seed=0,
        )

    seen: list[float] = []
    trainer = Trainer(make, config=config, folder=tmp_path)
    trainer.run(lambda step, row: seen.append(row["error"]), until=40)
    assert trainer.step == 40
    trainer.run(lambda step, row: seen.append(row["error"]))
    assert trainer.step == 60
    assert np.mean(seen[-3:]) < 0.8 * np.mean(seen[:2])


def test_what_cannot_be_learned_from_is_refused() -> None:
    with pytest.raises(DatasetError, match="e0 has 3 frames, 5 are needed"):
        prepare([moving(0, frames=3)], size=48)
    with pytest.raises(InstructionError, match="empty"):
        prepare([moving(0, instruction=" ")], size=48)
    with pytest.raises(DatasetError, match="none of wrist"):
        prepare([moving(0)], size=48, cameras=["wrist"])
    with pytest.raises(ConfigError):
        NegativeConfig(undo=-1.0)


def test_the_hash_tells_data_apart() -> None:
    first = data_hash(prepare([moving(0)], size=48))
    assert first == data_hash(prepare([moving(0)], size=48))
    assert first != data_hash(prepare([moving(0, instruction="ring the bell")], size=48))
    assert first != data_hash(prepare([moving(1)], size=48))


def test_a_long_episode_is_thinned_from_end_to_end() -> None:
    (example,) = prepare([moving(0, images={"front": np.zeros((700, 8, 8, 3), np.uint8)})], size=16)
    assert len(example.images) == 160
    assert example.clip.progress[0] == 0.0
    assert example.clip.progress[-1] == 1.0
