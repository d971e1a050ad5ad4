"""Names with options, cards, and rows that fail by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from robo_reward.client.guarded import answer_each
from robo_reward.errors import ConfigError
from robo_reward.frames import Frame, Image
from robo_reward.models import Capabilities, RewardModel, ScoreArrays, load_model
from robo_reward.models.base import Feature, Instants
from robo_reward.models.registry import read_name
from robo_reward.query import Query
from robo_reward.signals import Status
from robo_reward.task import Task


def test_names_bring_their_options(tmp_path: Path) -> None:
    assert read_name("compact") == ("compact", {})
    assert read_name("gvl=org/name") == ("gvl", {"checkpoint": "org/name"})
    assert read_name("gvl=a,max-frames=4") == ("gvl", {"checkpoint": "a", "max_frames": "4"})
    assert read_name("gvl,prompt=p.txt") == ("gvl", {"prompt": "p.txt"})
    url = "endpoint:robovalue:https://host/inference?model_id=m,model_version=3"
    assert read_name(url) == (url, {})
    odd = tmp_path / "a=b,c"
    odd.mkdir()
    assert read_name(str(odd)) == (str(odd), {})


@pytest.mark.parametrize("text", ["gvl=a,prompt", "gvl,=x", "gvl=a,checkpoint=b"])
def test_options_without_sense_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be KEY=VALUE"):
        read_name(text)


def test_options_get_the_types_that_the_factory_names() -> None:
    model = load_model("goal-distance,scale=0.25")
    assert model.model_id == "goal-distance@0.25"
    assert load_model("goal-distance,scale=0.25", scale=0.5).model_id == "goal-distance@0.5"
    assert load_model("random-features,scale=1").model_id == "random-features@1"
    with pytest.raises(ConfigError, match="no option scal; did you mean scale"):
        load_model("goal-distance,scal=0.25")
    with pytest.raises(ConfigError, match=r"scale='wide': Expected `float"):
        load_model("goal-distance,scale=wide")


class Moody(RewardModel):
    """Has no answer to black frames."""

    def __init__(self) -> None:
        super().__init__(name="moody", version="0", capabilities=Capabilities(signals=("done",)))

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        return [float(image.mean()) / 255 for image in images]

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[Instants],
    ) -> ScoreArrays:
        done = np.array([view[0] for view in newest], np.float32)
        none = np.full(len(queries), np.nan, np.float32)
        return ScoreArrays(
            progress=none,
            progress_delta=none,
            done=done,
            contrastive=none,
            uncertainty=none,
            failures={row: "black" for row, value in enumerate(done) if value == 0},
        )


def test_a_row_that_fails_costs_no_other_its_score() -> None:
    frames = [Frame.of(np.full((4, 4, 3), level, np.uint8)) for level in (255, 0, 51)]
    queries = [Query(task=Task(instruction="x"), newest=(frame,)) for frame in frames]
    model = Moody()
    arrays = model.score(queries)
    np.testing.assert_allclose(arrays.done, [1, np.nan, 0.2])
    assert arrays.failures == {1: "black"}
    assert not arrays.abstained[1]
    scores, error = answer_each(model, queries)
    assert error is None
    assert [score.status for score in scores] == [Status.OK, Status.MODEL_ERROR, Status.OK]
    assert scores[1].detail == "black"
