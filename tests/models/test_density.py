"""Strange pictures are told from familiar ones, and above the limit there is no number."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from robo_reward.client import connect, local
from robo_reward.envs.experts.record import record_episodes
from robo_reward.errors import ConfigError, ModelError
from robo_reward.frames import Frame
from robo_reward.models import load_model
from robo_reward.models.base import RewardModel
from robo_reward.models.oracle_pixels import OraclePixels, paint
from robo_reward.nodes.serve import RewardNode
from robo_reward.query import Query
from robo_reward.signals import SIGNALS, Score, Status
from robo_reward.task import Task

torch = pytest.importorskip("torch")

from robo_reward.models.compact import SHIPPED, CompactModel  # noqa: E402
from robo_reward.models.density import FILE, Density, weights_hash  # noqa: E402

TASK = Task(instruction="put the red cube on the blue pad")
LIMIT = 0.6


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """Frames of the suite, of seeds that nothing was trained on."""
    episodes = record_episodes("seen", episodes=6, seed=77)
    return np.concatenate([episode.images["front"][::5] for episode in episodes])


@pytest.fixture(scope="module")
def strange(images: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    covered = images.copy()
    covered[:, :, 30:] = rng.integers(0, 12, covered[:, :, 30:].shape)
    return {
        "noise": rng.integers(0, 256, images.shape, dtype=np.uint8),
        "black": rng.integers(0, 6, images.shape, dtype=np.uint8),
        "covered": covered,
    }


@pytest.fixture(scope="module")
def model() -> CompactModel:
    loaded = load_model("compact", device="cpu")
    assert isinstance(loaded, CompactModel)
    return loaded


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The shipped folder as it was before there was a density."""
    folder = tmp_path / "bare"
    shutil.copytree(SHIPPED, folder)
    (folder / FILE).unlink()
    return folder


def ask(images: NDArray[np.uint8]) -> list[Query]:
    return [Query(task=TASK, newest=(Frame.of(np.ascontiguousarray(one)),)) for one in images]


def uncertainty(model: RewardModel, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return model.score(ask(images)).uncertainty


@pytest.mark.parametrize("kind", ["noise", "black", "covered"])
def test_strange_pictures_are_more_uncertain_than_any_familiar_one(
    model: CompactModel,
    images: NDArray[np.uint8],
    strange: dict[str, NDArray[np.uint8]],
    kind: str,
) -> None:
    familiar, other = uncertainty(model, images), uncertainty(model, strange[kind])
    assert np.median(familiar) < 0.3
    assert other.min() > 0.9
    assert (familiar < other.min()).mean() >= 0.9
    assert other.max() <= 1.0


def test_familiar_frames_keep_their_values_and_no_frame_gets_less(
    model: CompactModel,
    bare: Path,
    images: NDArray[np.uint8],
    strange: dict[str, NDArray[np.uint8]],
) -> None:
    before = load_model(str(bare), device="cpu")
    assert before.model_id != model.model_id
    old, new = uncertainty(before, images), uncertainty(model, images)
    assert (np.abs(old - new) < 1e-5).mean() >= 0.9
    assert (new >= old - 1e-5).all()
    for pictures in strange.values():
        assert (uncertainty(model, pictures) > uncertainty(before, pictures)).all()
    first, second = before.score(ask(images)), model.score(ask(images))
    np.testing.assert_allclose(first.progress, second.progress, atol=1e-6)


def test_a_strange_reference_makes_the_answer_uncertain(
    model: CompactModel, images: NDArray[np.uint8], strange: dict[str, NDArray[np.uint8]]
) -> None:
    newest, before = Frame.of(images[0]), Frame.of(strange["black"][0])
    alone, against = model.score(
        [
            Query(task=TASK, newest=(newest,)),
            Query(task=TASK, newest=(newest,), reference=(before,)),
        ]
    ).uncertainty
    assert alone < 0.5
    assert against > 0.9


def test_strangeness_rises_with_the_distance_from_the_knee_on() -> None:
    density = Density(mean=torch.zeros(4), whiten=torch.eye(4), knee=1.0, scale=0.5)
    # Constant channels: mean and no deviation, so that the distance is 1, 2, … times √(2/4).
    maps = torch.arange(1.0, 8.0)[:, None, None, None].expand(7, 2, 3, 3)
    distance = density.distance(maps)
    torch.testing.assert_close(distance, torch.arange(1.0, 8.0) * math.sqrt(0.5))
    found = density.strangeness(maps)
    assert found[0] == 0.0
    assert (found.diff() > 0).all()
    assert float(found[1]) == pytest.approx(1 - math.exp(-(math.sqrt(2.0) - 1) / 0.5))
    assert found.max() <= 1.0


def test_a_density_of_other_weights_is_refused(bare: Path) -> None:
    shutil.copy(SHIPPED / FILE, bare / FILE)
    assert Density.load(bare) is not None
    other = bytearray((bare / "model.safetensors").read_bytes())
    other[-1] ^= 1
    (bare / "model.safetensors").write_bytes(other)
    assert weights_hash(bare) != weights_hash(SHIPPED)
    with pytest.raises(ModelError, match=r"fitted on other weights.*training\.density"):
        load_model(str(bare), device="cpu")
    (bare / FILE).write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(str(bare), device="cpu")


def check(scores: list[Score], count: int, model: RewardModel) -> None:
    """The first ``count`` scores are numbers, all others are abstentions."""
    assert [score.status for score in scores[:count]] == [Status.OK] * count
    for score in scores[count:]:
        assert score.status is Status.ABSTAINED
        assert score.reason == "ABSTAINED"
        assert all(math.isnan(getattr(score.signals, name)) for name in SIGNALS)
        assert "is above 0.600" in score.detail
        assert score.identity.calibration == "none>0.6"
        assert score.identity.frames
        assert score.identity.model == model.model_id


def test_above_the_limit_there_is_no_number_here_or_through_a_node(
    images: NDArray[np.uint8], strange: dict[str, NDArray[np.uint8]]
) -> None:
    model = load_model("compact", device="cpu", abstain_above=LIMIT)
    fine = images[uncertainty(model, images) < LIMIT][:3]
    asked = ask(np.concatenate([fine, *(pictures[:2] for pictures in strange.values())]))
    arrays = model.score(asked)
    assert arrays.abstained.tolist() == [False] * 3 + [True] * 6
    assert np.isnan(arrays.progress[3:]).all()
    assert math.isnan(model.value([Frame.of(strange["noise"][0])], TASK))
    check(model.answer(asked), 3, model)
    node = RewardNode(model, address="tcp://127.0.0.1:0", warm_up=False)
    with node, connect(node.address, deadline_s=20.0) as source:
        assert source.info().abstains
        check(source.submit(asked).result(timeout_s=20.0), 3, model)
        assert node.stats()["out_ABSTAINED"] == 6
    with local(model) as source:
        assert source.info().abstains
        check(source.submit(asked).result(timeout_s=20.0), 3, model)


def test_without_a_limit_everything_is_scored(
    model: CompactModel, strange: dict[str, NDArray[np.uint8]]
) -> None:
    assert model.abstain_above is None
    assert not model.score(ask(strange["noise"][:2])).abstained.any()
    assert all(score.ok for score in model.answer(ask(strange["noise"][:2])))


@pytest.mark.parametrize("limit", [-0.1, 1.5, math.nan])
def test_a_limit_without_meaning_is_refused(limit: float) -> None:
    with pytest.raises(ConfigError, match=r"abstain_above must be in \[0, 1\]"):
        load_model("oracle-pixels", abstain_above=limit)


def test_nothing_lies_above_the_highest_uncertainty() -> None:
    model = OraclePixels()
    model.limit(0.0)
    assert not model.score(ask(paint(0.5, 0.5)[None])).abstained.any()
