"""CLIP's goal–baseline reward: the formula by hand, and tiny checkpoints of three kinds."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from robo_reward.errors import ConfigError, ModelNotFound  # noqa: E402
from robo_reward.frames import Frame  # noqa: E402
from robo_reward.models import load_model  # noqa: E402
from robo_reward.models.clip import ClipReward, projected_reward  # noqa: E402
from robo_reward.query import Query  # noqa: E402
from robo_reward.task import Task  # noqa: E402
from tests.models.tiny_towers import TOWERS  # noqa: E402

TASK = Task(instruction="put the red cube on the blue pad")


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: build(tmp_path_factory.mktemp(name)) for name, build in TOWERS.items()}


def frames(count: int) -> list[Frame]:
    random = np.random.default_rng(0)
    return [Frame.of(random.integers(0, 256, (70, 90, 3), np.uint8)) for _ in range(count)]


def test_the_formula_by_hand() -> None:
    # In the plane: g = (1, 0), b = (0, 1), so L runs from the one to the other.
    goal, base = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    states = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.8, 0.6]], np.float32)
    # α = 0: the cosine with the goal.
    np.testing.assert_allclose(
        projected_reward(states, goal, base, alpha=0.0), [1.0, 0.0, -1.0, 0.8], atol=1e-6
    )
    # α = 1: (-1, 0) falls on L at (0, 1), and (0.8, 0.6) at (0.6, 0.4): 1 - ½(0.16 + 0.16).
    np.testing.assert_allclose(
        projected_reward(states, goal, base, alpha=1.0), [1.0, 0.0, 0.0, 0.84], atol=1e-6
    )
    # α = ½ of (0.8, 0.6): ½(0.6, 0.4) + ½(0.8, 0.6) - (1, 0) = (-0.3, 0.5): 1 - ½·0.34.
    half = projected_reward(states[3:], goal, base, alpha=0.5)
    np.testing.assert_allclose(half, [0.83], atol=1e-6)
    # Without a line there is only the cosine.
    np.testing.assert_allclose(
        projected_reward(states, goal, goal, alpha=1.0), [1.0, 0.0, -1.0, 0.8], atol=1e-6
    )


@pytest.mark.parametrize("name", sorted(TOWERS))
def test_what_the_towers_say_is_what_is_scored(name: str, towers: dict[str, Path]) -> None:
    model = load_model("clip", checkpoint=str(towers[name]), device="cpu", alpha=0.7)
    assert model.capabilities.signals == ("progress", "progress_delta")
    assert model.model_id.startswith("clip@")
    first, second = frames(2)
    said = model.score([Query(task=TASK, newest=(second,), reference=(first,))])
    source = transformers.AutoModel.from_pretrained(towers[name]).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(towers[name], backend="pil")
    tokenizer = transformers.AutoTokenizer.from_pretrained(towers[name])
    fill = {} if name == "clip" else {"padding": "max_length", "max_length": 64}

    def unit(found: Any) -> np.ndarray:
        row = found.pooler_output[0].detach().numpy()
        return np.asarray(row / np.linalg.norm(row))

    def text(sentence: str) -> np.ndarray:
        return unit(source.get_text_features(**tokenizer([sentence], return_tensors="pt", **fill)))

    goal = text(f"a robot that has finished this job: {TASK.instruction}")
    base = text("a robot that has not begun with its job")
    expected = []
    for frame in (first, second):
        state = unit(source.get_image_features(**processor(frame.image, return_tensors="pt")))
        along = goal - base
        projected = base + along * ((state - base) @ along) / (along @ along)
        gap = 0.7 * projected + 0.3 * state - goal
        expected.append(np.clip(1 - 0.5 * gap @ gap, 0, 1))
    assert said.progress[0] == pytest.approx(expected[1], abs=1e-5)
    assert said.progress_delta[0] == pytest.approx(expected[1] - expected[0], abs=1e-5)
    assert np.isnan([said.done[0], said.contrastive[0], said.uncertainty[0]]).all()


def test_a_frame_and_a_sentence_are_read_once(
    towers: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ClipReward(str(towers["clip"]), device="cpu")
    read: list[str] = []
    embed = model._embed

    def spied(text: str) -> Any:
        read.append(text)
        return embed(text)

    monkeypatch.setattr(model, "_embed", spied)
    pictures = frames(5)
    queries = [
        Query(task=TASK, newest=(new,), reference=(old,))
        for old, new in itertools.pairwise(pictures)
    ]
    together = model.score(queries)
    assert model.encoded_frames == 5
    assert len(read) == 1
    alone = [model.score([query]).progress[0] for query in queries]
    np.testing.assert_allclose(together.progress, alone, atol=1e-6)
    # Differences of one curve: they add up.
    assert together.progress_delta.sum() == pytest.approx(
        float(together.progress[-1] - together.progress[0] + together.progress_delta[0]), abs=1e-6
    )
    nothing = model.score([Query(task=TASK, newest=(pictures[0],))])
    assert nothing.progress_delta[0] == 0.0


def test_what_was_set_is_part_of_the_identity(towers: dict[str, Path]) -> None:
    def made(**options: Any) -> tuple[str, str]:
        model = ClipReward(str(towers["clip"]), device="cpu", **options)
        return model.model_id, model.prompt_id

    plain, steep, worded = made(), made(alpha=1.0), made(baseline="a table")
    assert plain == made()
    assert steep[0] != plain[0]
    assert steep[1] == plain[1]
    assert worded[0] == plain[0]
    assert worded[1] != plain[1]


def test_bounds_stretch_progress(towers: dict[str, Path]) -> None:
    query = Query(task=TASK, newest=(frames(1)[0],))
    plain = ClipReward(str(towers["clip"]), device="cpu").score([query]).progress[0]
    low, high = float(plain) - 0.1, float(plain) + 0.3
    stretched = ClipReward(str(towers["clip"]), device="cpu", low=low, high=high)
    assert stretched.score([query]).progress[0] == pytest.approx(0.25, abs=1e-4)


def test_a_long_sentence_is_cut_and_said_so(
    towers: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    model = ClipReward(str(towers["clip"]), device="cpu")
    task = Task(instruction="put the cube on the pad " * 20)
    assert np.isfinite(model.score([Query(task=task, newest=(frames(1)[0],))]).progress).all()
    assert "only the first 64 tokens" in caplog.text


def test_what_makes_no_sense_is_refused(towers: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must hold \{instruction\}.*baseline.*alpha.*low"):
        ClipReward(str(towers["clip"]), prompt="x", baseline=" ", alpha=2.0, low=1.0, high=0.0)
    with pytest.raises(ModelNotFound, match=r"no checkpoint .*nothing"):
        ClipReward(str(tmp_path / "nothing"))
    small = transformers.Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    transformers.AutoModel.from_config(small).save_pretrained(tmp_path / "dino")
    with pytest.raises(ModelNotFound, match="dinov2 model; clip takes one that embeds"):
        ClipReward(str(tmp_path / "dino"))
