"""The compact model: contracts that hold by construction, whatever the weights are."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from robo_reward.errors import MissingDependency, ModelNotFound
from robo_reward.frames import Frame
from robo_reward.models import load_model
from robo_reward.models.compact import CompactModel
from robo_reward.query import Query
from robo_reward.task import Task

torch = pytest.importorskip("torch")

from robo_reward.models.compact_network import CompactConfig, CompactNetwork  # noqa: E402
from robo_reward.training.tokenizer import train_tokenizer  # noqa: E402
from robo_reward.training.trainer import save  # noqa: E402

TASK = Task(instruction="put the red cube on the blue pad")
OTHER = Task(instruction="open the green drawer")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the real architecture: they test plumbing, never quality."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("compact")
    save(CompactNetwork.of(CompactConfig()), train_tokenizer(512), path)
    return path


@pytest.fixture
def model(folder: Path) -> CompactModel:
    loaded = load_model(str(folder), device="cpu")
    assert isinstance(loaded, CompactModel)
    return loaded


def frames(count: int, *, size: int = 96, seed: int = 0) -> list[Frame]:
    rng = np.random.default_rng(seed)
    return [
        Frame.of(rng.integers(0, 256, (size, size, 3), dtype=np.uint8), sequence=i)
        for i in range(count)
    ]


def query(newest: Frame, reference: Frame | None = None, task: Task = TASK) -> Query:
    before = () if reference is None else (reference,)
    return Query(task=task, newest=(newest,), reference=before)


def test_delta_and_contrastive_change_sign_when_swapped(model: CompactModel) -> None:
    first, second = frames(2)
    there, back = model.score([query(first, second)]), model.score([query(second, first)])
    assert there.progress_delta[0] == pytest.approx(-back.progress_delta[0], abs=1e-6)
    assert there.contrastive[0] == pytest.approx(-back.contrastive[0], abs=1e-6)
    assert there.progress_delta[0] != 0.0


def test_nothing_happened_is_zero(model: CompactModel) -> None:
    (frame,) = frames(1)
    arrays = model.score([query(frame, frame), query(frame)])
    np.testing.assert_array_equal(arrays.progress_delta, 0.0)
    np.testing.assert_array_equal(arrays.contrastive, 0.0)


def test_deltas_of_an_episode_telescope(model: CompactModel) -> None:
    seen = frames(6)
    asked = [query(new, old) for old, new in pairwise(seen)]
    arrays = model.score([query(seen[0]), *asked])
    assert arrays.progress_delta.sum() == pytest.approx(
        arrays.progress[-1] - arrays.progress[0], abs=1e-5
    )


def test_a_row_does_not_depend_on_its_batch(model: CompactModel, folder: Path) -> None:
    seen = frames(5)
    asked = [query(frame, seen[0], task) for frame in seen for task in (TASK, OTHER)]
    together = model.score(asked)
    for index in (0, 3, 9):
        alone = CompactModel(folder, device="cpu").score([asked[index]])
        assert alone.progress[0] == pytest.approx(together.progress[index], abs=2e-3)
        assert alone.done[0] == pytest.approx(together.done[index], abs=2e-3)


def test_a_frame_is_encoded_once_whatever_is_asked(model: CompactModel) -> None:
    seen = frames(4)
    for task in (TASK, OTHER, Task(instruction="press the red button")):
        model.score([query(new, old, task) for old, new in pairwise(seen)])
    assert model.encoded_frames == 4


def test_signals_are_in_range_and_words_matter(model: CompactModel) -> None:
    (frame,) = frames(1)
    scores = model.answer([query(frame), query(frame, task=OTHER)])
    assert all(score.ok for score in scores)
    assert scores[0].signals != scores[1].signals
    assert scores[0].identity.model == model.model_id
    assert scores[0].identity.frames == (frame.id,)


def test_views_are_joined_done_by_the_least(model: CompactModel) -> None:
    first, second = frames(2)
    both = model.score([Query(task=TASK, newest=(first, second))])
    single = model.score([query(first), query(second)])
    assert both.done[0] == pytest.approx(single.done.min(), abs=1e-5)
    assert both.progress[0] == pytest.approx(single.progress.mean(), abs=1e-5)
    assert both.uncertainty[0] == pytest.approx(single.uncertainty.max(), abs=1e-5)


@pytest.mark.parametrize("shape", [(48, 64), (240, 320), (97, 96)])
def test_frames_of_any_size_are_taken(model: CompactModel, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert np.isfinite(model.score([query(Frame.of(image))]).progress[0])


@pytest.mark.parametrize("text", ["x", "häng den würfel auf", "put " * 400, "?!"])
def test_any_instruction_is_read(model: CompactModel, text: str) -> None:
    (frame,) = frames(1)
    task = Task(instruction=text)
    assert np.isfinite(model.score([query(frame, task=task)]).progress[0])


def test_case_and_spaces_do_not_matter(model: CompactModel) -> None:
    (frame,) = frames(1)
    loud = Task(instruction="  Put the RED cube   on the blue pad ")
    arrays = model.score([query(frame), query(frame, task=loud)])
    assert arrays.progress[0] == arrays.progress[1]


def test_features_for_policies(model: CompactModel) -> None:
    seen = frames(3)
    features = model.visual_features(seen, TASK)
    assert features.shape == (3, 6)
    assert np.abs(features).max() <= 1.0
    alone = model.visual_features(seen[1:2], TASK)[0]
    np.testing.assert_allclose(features[1], alone, atol=1e-4)
    other = model.visual_features(seen[1:2], OTHER)[0]
    assert np.abs(other - alone).max() > 1e-4
    encoded = model.encoded_frames
    model.score([query(seen[1])])
    assert model.encoded_frames == encoded


def test_a_folder_without_weights_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match="train-reward"):
        load_model(str(tmp_path))


def test_a_hub_name_without_a_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFound, match="nobody/nothing"):
        load_model("nobody/nothing")
