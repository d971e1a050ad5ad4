"""Adaptation for real, small: it gets better or stays as it was, and says which."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mcap")

from robo_reward.datasets.episode import Episode  # noqa: E402
from robo_reward.datasets.log import LogWriter  # noqa: E402
from robo_reward.datasets.sources import open_episodes  # noqa: E402
from robo_reward.errors import ConfigError, DatasetError  # noqa: E402
from robo_reward.frames import Frame  # noqa: E402
from robo_reward.models import load_model  # noqa: E402
from robo_reward.models.calibration import Calibration  # noqa: E402
from robo_reward.models.compact_network import CompactConfig, CompactNetwork  # noqa: E402
from robo_reward.models.oracle_pixels import OraclePixels  # noqa: E402
from robo_reward.protocol.stream import EndEvent, StartEvent, Tag  # noqa: E402
from robo_reward.query import Query  # noqa: E402
from robo_reward.task import Task  # noqa: E402
from robo_reward.training.adapt import Adapted, AdaptOptions, adapt  # noqa: E402
from robo_reward.training.examples import prepare  # noqa: E402
from robo_reward.training.hold_out import HeldOutCheck, better, hold_out  # noqa: E402
from robo_reward.training.tokenizer import train_tokenizer  # noqa: E402
from robo_reward.training.trainer import save  # noqa: E402
from robo_reward.transport.clock import clock_name  # noqa: E402

SMALL = CompactConfig(image_size=48, widths=(8, 16, 16), map_width=16, text_width=32, trunk=32)
OPTIONS = AdaptOptions(steps=60, check_every=20, rate=3e-3, clips=6)


def film(number: int, *, frames: int = 12) -> np.ndarray[Any, Any]:
    """A bar that fills the picture from the left."""
    images = np.full((frames, 48, 48, 3), 40 + number, np.uint8)
    for t in range(frames):
        images[t, 8:40, : 4 * (t + 1)] = 250
    return images


def shown(number: int, *, success: bool | None = True, frames: int = 12) -> Episode:
    return Episode(
        id=f"e{number}",
        instruction="fill the bar",
        images={"front": film(number, frames=frames)},
        success=success,
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that knows nothing."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base")
    save(CompactNetwork.of(SMALL), train_tokenizer(SMALL.vocabulary), folder)
    return folder


@pytest.fixture(scope="module")
def adapted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Adapted, Path]:
    folder = tmp_path_factory.mktemp("adapted") / "model"
    episodes = [*map(shown, range(4)), shown(9, success=False)]
    return adapt(load_model(str(base)), episodes, folder=folder, options=OPTIONS), folder


def test_it_gets_better_on_what_it_was_not_shown(adapted: tuple[Adapted, Path]) -> None:
    result, folder = adapted
    assert result.improved
    assert result.after["total"] < result.before["total"]
    assert result.after["total"] == pytest.approx(result.checks[result.step]["total"], abs=1e-5)
    assert result.held_out == "1 of 5 episodes"
    assert (result.episodes, result.frames) == (5, 60)
    model = load_model(str(folder))
    assert model.model_id == result.model != result.base
    frames = [Frame.of(image, camera="c", sequence=t) for t, image in enumerate(film(50))]
    task = Task(instruction="fill the bar")
    progress = model.score([Query(task=task, newest=(one,)) for one in frames]).progress
    assert np.corrcoef(progress, np.arange(12))[0, 1] > 0.8


def test_a_calibration_of_the_base_is_refused(adapted: tuple[Adapted, Path], base: Path) -> None:
    old, new = load_model(str(base)), load_model(str(adapted[1]))
    assert old.prompt_id == new.prompt_id
    with pytest.raises(ConfigError, match="run robo-reward calibrate again"):
        _check(old.model_id, new)


def _check(fitted_on: str, model: Any) -> None:
    # The ids are all that is looked at.
    blank = object.__new__(Calibration)
    object.__setattr__(blank, "model", fitted_on)
    object.__setattr__(blank, "prompt", model.prompt_id)
    blank.check(model=model.model_id, prompt=model.prompt_id)


def test_where_nothing_gets_better_the_weights_stay(
    adapted: tuple[Adapted, Path], tmp_path: Path
) -> None:
    base = adapted[1]
    ruinous = AdaptOptions(steps=40, check_every=10, patience=2, rate=30.0, clips=4)
    result = adapt(
        load_model(str(base)), map(shown, range(3)), folder=tmp_path / "model", options=ruinous
    )
    assert not result.improved
    assert result.step == 0
    assert result.steps == 20, "it gave up after two checks"
    assert result.model == result.base == load_model(str(tmp_path / "model")).model_id
    assert result.after == result.before
    same = [folder / "model.safetensors" for folder in (base, tmp_path / "model")]
    assert same[0].read_bytes() == same[1].read_bytes()


def test_frozen_text_stays_as_it_is(base: Path, tmp_path: Path) -> None:
    frozen = AdaptOptions(steps=60, check_every=20, rate=3e-3, clips=6, text_rate=0.0)
    episodes = map(shown, range(3))
    result = adapt(load_model(str(base)), episodes, folder=tmp_path / "m", options=frozen)
    assert result.improved
    old, new = load_model(str(base)).network, load_model(str(tmp_path / "m")).network  # type: ignore[attr-defined]
    for mine, theirs in zip(new.text.parameters(), old.text.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert not torch.equal(new.keys.weight, old.keys.weight)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_what_is_held_out_is_not_trained_on(count: int) -> None:
    examples = prepare([*map(shown, range(count)), shown(90, success=False)], size=48)
    split = hold_out(examples, seed=0)
    train = {image.tobytes() for one in split.train for image in one.images}
    held = {image.tobytes() for one in split.held_out for image in one.images}
    assert held
    assert not train & held
    assert ("frame" in split.how) == (count < 3)
    for one in split.train:
        assert one.clip.progress[-1] == 1.0 or one.failed
        np.testing.assert_array_equal(one.clip.frames, np.arange(len(one.images)))


def test_the_check_is_zero_for_who_knows_all() -> None:
    examples = prepare([shown(0)], size=48)
    check = HeldOutCheck(examples, seed=0)

    class Knowing(HeldOutCheck):
        def judge(self, network: Any, tokenizer: Any) -> Any:
            from robo_reward.training.hold_out import Judged

            clip = examples[0].clip
            false = np.stack([one.progress for one in check._false[0]], 1)
            return [Judged(progress=clip.progress, done=np.nan_to_num(clip.done), false=false)]

    assert Knowing(examples, seed=0)(None, None) == {  # type: ignore[arg-type]
        "own_error": 0.0,
        "order_error": 0.0,
        "false_error": 0.0,
        "done_error": 0.0,
        "total": 0.0,
    }


def test_no_part_pays_for_another() -> None:
    base = {"own_error": 0.2, "false_error": 0.4, "total": 0.3}
    assert better({"own_error": 0.1, "false_error": 0.4, "total": 0.25}, base, base)
    assert not better({"own_error": 0.25, "false_error": 0.1, "total": 0.175}, base, base)
    assert not better({"own_error": 0.2, "false_error": 0.4, "total": 0.3}, base, base)
    unknown = {"own_error": 0.1, "done_error": float("nan"), "total": 0.1}
    assert better(unknown, {**unknown, "total": 0.2}, {**unknown, "total": 0.2})


def test_order_counts_pairs() -> None:
    from robo_reward.training.hold_out import _misordered

    truth = np.array([0.0, 0.5, 0.55, np.nan, 1.0], np.float32)
    assert _misordered(truth, truth).tolist() == [0.0] * 5
    assert _misordered(1 - truth, truth).tolist() == [1.0] * 5
    assert _misordered(np.zeros(5, np.float32), truth).tolist() == [0.5] * 5


def test_what_cannot_be_adapted_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="compact models only"):
        adapt(OraclePixels(), [shown(0)], folder=tmp_path, options=OPTIONS)
    failures = [shown(0, success=False)]
    with pytest.raises(DatasetError, match="none of 1 episodes succeeds"):
        adapt(load_model(str(base)), failures, folder=tmp_path, options=OPTIONS)
    with pytest.raises(ConfigError, match="text_rate"):
        AdaptOptions(text_rate=2.0)


def write_log(folder: Path, number: int) -> None:
    writer = LogWriter(folder, name=f"e{number}")
    stamps: dict[str, Any] = {"clock": clock_name()}
    tag = Tag(episode=number)
    writer.start(
        StartEvent(tag=tag, instruction="fill the bar", mono_ns=1, wall_ns=1, **stamps),
        local_ns=1,
    )
    for t, image in enumerate(film(number)):
        writer.frame(
            Frame.of(image, camera="front", sequence=t, mono_ns=2 + t, wall_ns=2 + t),
            local_ns=2 + t,
        )
    writer.end(
        EndEvent(tag=tag, success=True, reason="", mono_ns=99, wall_ns=99, **stamps), local_ns=99
    )
    writer.close()


def write_images(folder: Path, number: int) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    for t, image in enumerate(film(number)):
        Image.fromarray(image).save(folder / f"{t}.png")


def test_episodes_come_from_recordings_images_and_films(tmp_path: Path) -> None:
    write_log(tmp_path / "logs", 1)
    (logged,) = open_episodes(tmp_path / "logs")
    assert (logged.instruction, logged.success, len(logged)) == ("fill the bar", True, 12)
    write_images(tmp_path / "films" / "a", 1)
    write_images(tmp_path / "films" / "b", 2)
    several = list(open_episodes(tmp_path / "films", instruction="move it", every=2))
    assert [one.id for one in several] == ["a", "b"]
    assert [len(one) for one in several] == [6, 6]
    assert several[0].instruction == "move it"
    (alone,) = open_episodes(tmp_path / "films" / "a")
    np.testing.assert_array_equal(alone.images["video"], logged.images["front"])
    for path, says in ((tmp_path / "no", "no dataset"), (tmp_path, "holds no recordings")):
        with pytest.raises(DatasetError, match=says):
            open_episodes(path)


def test_the_command(base: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    for number in range(3):
        write_log(tmp_path / "logs", number)
    out = tmp_path / "out"
    fast = ("--steps", "60", "--rate", "3e-3", "--threads", "1", "--without", "rewind")
    ran = command("adapt", str(base), str(tmp_path / "logs"), "--out", str(out), *fast, "--json")
    assert ran.code == 0, ran.err
    figures = json.loads(ran.out.splitlines()[-1])
    assert figures["improved"] is True
    assert figures["after"]["total"] < figures["before"]["total"]
    assert load_model(figures["path"]).model_id == figures["model"]
    card = (out / "model" / "README.md").read_text()
    assert figures["base"] in card
    assert figures["data"] in card
    assert "fill the bar" in card
    assert "<svg" in (out / "report.html").read_text()
    assert json.loads((out / "metrics.json").read_text())["checks"].keys() == {
        "0",
        "20",
        "40",
        "60",
    }


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("oracle-pixels", "films"), 2, "compact models only"),
        (("BASE", "films"), 2, "instruction"),
        (("BASE", "films", "--instruction", "go", "--every", "4"), 6, "3 frames, 5 are needed"),
        (("BASE", "nothing"), 6, "no dataset"),
        (("BASE", "films", "--without", "rewnd"), 2, "did you mean rewind"),
        (("compct", "films"), 2, "did you mean compact"),
    ],
)
def test_what_the_command_refuses(
    words: tuple[str, ...],
    code: int,
    says: str,
    base: Path,
    tmp_path: Path,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "films", 1)
    ran = command("adapt", *(str(base) if word == "BASE" else word for word in words))
    assert ran.code == code
    assert says in ran.err
    assert ran.err.count("\n") == 1
