"""Distance to a goal image in a backbone's features: the formulas, the scale, the backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from robo_reward.errors import ConfigError, ModelNotFound  # noqa: E402
from robo_reward.frames import Frame  # noqa: E402
from robo_reward.models import load_model  # noqa: E402
from robo_reward.models.frame_encoder import FrameEncoder  # noqa: E402
from robo_reward.models.goal_embedding import GoalEmbedding  # noqa: E402
from robo_reward.query import Query  # noqa: E402
from robo_reward.task import Task  # noqa: E402
from tests.models.tiny_towers import tiny_clip  # noqa: E402


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=42, patch_size=14
    )
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


def dot(column: int) -> Frame:
    image = np.full((96, 96, 3), 90, np.uint8)
    image[30:60, column : column + 30] = (220, 30, 30)
    return Frame.of(image)


def query(at: int, *, reference: int | None = None, **task: Any) -> Query:
    before = () if reference is None else (dot(reference),)
    asked = Task(instruction="move it", **task)
    return Query(task=asked, newest=(dot(at),), reference=before)


def embedded(folder: Path, column: int) -> np.ndarray:
    """The same by hand: the mean of the patches, of unit length."""
    source = transformers.AutoModel.from_pretrained(folder).eval()
    from PIL import Image

    small = Image.fromarray(dot(column).image).resize((42, 42), Image.Resampling.BOX)
    pixels = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        vector = source(pixels).last_hidden_state[0, 1:].half().float().mean(0).numpy()
    return np.asarray(vector / np.linalg.norm(vector))


def test_progress_is_the_share_of_the_way(dino: Path) -> None:
    far, here, goal = (embedded(dino, column) for column in (0, 30, 60))
    model = load_model("goal-embedding", checkpoint=str(dino), device="cpu")
    assert model.capabilities.signals == ("progress", "progress_delta")
    assert model.capabilities.history == 1
    share = 1 - (1 - here @ goal) / (1 - far @ goal)
    begun = Query(
        task=Task(instruction="move it", goal=dot(60)),
        newest=(dot(30),), reference=(dot(15),), history=((dot(0),),),
    )  # fmt: skip
    said = model.score([begun, query(30, reference=0, goal=dot(60)), query(0, goal=dot(60))])
    np.testing.assert_allclose(said.progress, [share, share, 0.0], atol=2e-3)
    assert said.progress_delta[1] == pytest.approx(said.progress[1])
    assert 0.0 < said.progress_delta[0] < said.progress_delta[1]
    # A demonstration says where the way begins, whatever the episode did before.
    shown = (dot(0), dot(20), dot(60))
    asked = [query(30, demo=shown), query(0, reference=30, demo=shown), query(60, demo=shown)]
    np.testing.assert_allclose(model.score(asked).progress, [share, 0.0, 1.0], atol=2e-3)
    assert model.encoded_frames == 4


def test_progress_is_the_cosine_on_a_scale(dino: Path) -> None:
    far, here, goal = (embedded(dino, column) for column in (0, 30, 60))
    model = GoalEmbedding(str(dino), device="cpu", since="scale")
    assert model.capabilities.history == 0
    said = model.score([query(30, reference=0, goal=dot(60)), query(60, goal=dot(60))])
    assert said.progress[0] == pytest.approx(here @ goal, abs=1e-4)
    assert said.progress[1] == 1.0
    assert said.progress_delta[0] == pytest.approx((here - far) @ goal, abs=1e-4)
    assert said.progress_delta[1] == 0.0
    assert np.isnan(said.done).all()
    straight = GoalEmbedding(str(dino), device="cpu", metric="l2", since="scale", scale=0.5)
    expected = 1 - np.linalg.norm(here - goal) / 0.5
    assert straight.score([query(30, goal=dot(60))]).progress[0] == pytest.approx(
        max(expected, 0.0), abs=1e-3
    )
    assert straight.model_id != model.model_id


def test_cells_tell_places_apart_that_a_mean_does_not(dino: Path) -> None:
    pooled = GoalEmbedding(str(dino), device="cpu", since="scale")
    placed = GoalEmbedding(str(dino), device="cpu", since="scale", pooled=False)
    asked = [query(0, goal=dot(60))]
    assert 1 - placed.score(asked).progress[0] > 2 * (1 - pooled.score(asked).progress[0])


@pytest.mark.parametrize("name", ["compact", "clip"])
def test_other_encoders(name: str, tmp_path: Path) -> None:
    source = "compact" if name == "compact" else str(tiny_clip(tmp_path / "clip"))
    model = GoalEmbedding(source, device="cpu", pooled=False)
    said = model.score([query(at, reference=0, goal=dot(60)) for at in (0, 30, 60)]).progress
    assert said[0] == 0.0
    assert said[1] < said[2] == 1.0


def test_an_encoder_is_the_same_from_its_own_folder(dino: Path, tmp_path: Path) -> None:
    for name in ("compact", str(dino)):
        encoder = FrameEncoder(name, device="cpu", image_size=0 if name == "compact" else 56)
        folder = tmp_path / Path(name).name
        encoder.save(folder)
        again = FrameEncoder.load(folder, device="cpu")
        assert (again.size, again.width, again.side) == (encoder.size, encoder.width, encoder.side)
        torch.testing.assert_close(again.maps([dot(9).image]), encoder.maps([dot(9).image]))
    assert (encoder.size, encoder.side) == (56, 4)
    with pytest.raises(ValueError, match="reads no sentences"):
        encoder.said("lift it")


def test_what_makes_no_sense_is_refused(dino: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="metric must be"):
        GoalEmbedding(str(dino), metric="dot")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="since must be"):
        GoalEmbedding(str(dino), since="dawn")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="scale must be"):
        GoalEmbedding(str(dino), scale=-1.0)
    with pytest.raises(ModelNotFound, match="no backbone"):
        GoalEmbedding(str(tmp_path / "none"))
    model = GoalEmbedding(str(dino), device="cpu")
    with pytest.raises(ConfigError, match="needs a goal image"):
        model.score([query(0)])
    with pytest.raises(ConfigError, match="shows no way there"):
        model.score([query(0, demo=(dot(60), dot(60)))])
