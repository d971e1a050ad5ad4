"""Small heads on a frozen encoder, trained for real: classifier and preference-learned reward."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from robo_reward.datasets.episode import Episode  # noqa: E402
from robo_reward.errors import ConfigError, DatasetError, MissingDependency  # noqa: E402
from robo_reward.evaluate import EvalOptions, evaluate  # noqa: E402
from robo_reward.frames import Frame  # noqa: E402
from robo_reward.models import load_model  # noqa: E402
from robo_reward.models.baselines import Constant  # noqa: E402
from robo_reward.models.classifier import Classifier  # noqa: E402
from robo_reward.models.frame_encoder import FrameEncoder  # noqa: E402
from robo_reward.models.frozen_features import FrozenFeatures  # noqa: E402
from robo_reward.models.oracle_pixels import OraclePixels  # noqa: E402
from robo_reward.models.preference import PreferenceReward  # noqa: E402
from robo_reward.query import Query  # noqa: E402
from robo_reward.task import Task  # noqa: E402
from robo_reward.training.classifier import (  # noqa: E402
    ClassifierOptions,
    choose,
    train_classifier,
)
from robo_reward.training.fit_heads import FitConfig  # noqa: E402
from robo_reward.training.head_frames import pool, read_examples  # noqa: E402
from robo_reward.training.preference import (  # noqa: E402
    PreferenceOptions,
    draw_pairs,
    judged_order,
    train_preference,
)

TASK = Task(instruction="fill the bar")
FIT = FitConfig(steps=120, copies=1, hidden=16)


def film(number: int, *, until: int = 12) -> Episode:
    """A bar that fills the picture from the left, or stops half way."""
    images = np.full((12, 96, 96, 3), 40 + 3 * number, np.uint8)
    for t in range(12):
        images[t, 20:70, : 8 * min(t + 1, until)] = (240, 60, 60)
    progress = (np.minimum(np.arange(12) + 1, until) / 12).astype(np.float32)
    return Episode(
        id=f"e{number}", instruction=TASK.instruction, images={"front": images},
        progress=progress, done=progress > 0.9, success=until == 12,
    )  # fmt: skip


EPISODES = [*(film(n) for n in range(8)), *(film(8 + n, until=6) for n in range(4))]


@pytest.fixture(scope="module")
def features() -> FrozenFeatures:
    return FrozenFeatures(FrameEncoder("compact", device="cpu"), "map")


@pytest.fixture(scope="module")
def classifier(features: FrozenFeatures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    examples = read_examples(EPISODES, size=features.encoder.size)
    trained = train_classifier(features, examples, options=ClassifierOptions(frames=60, fit=FIT))
    assert trained.figures["frames"] <= 60
    assert trained.figures["roc_auc"] > 0.95
    folder = tmp_path_factory.mktemp("classifier")
    trained.save(folder)
    return folder


@pytest.fixture(scope="module")
def preference(features: FrozenFeatures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    examples = read_examples(EPISODES, size=features.encoder.size)
    options = PreferenceOptions(pairs=200, fit=replace(FIT, members=3))
    trained = train_preference(features, examples, options=options)
    assert trained.figures["pair_accuracy"] > 0.9
    folder = tmp_path_factory.mktemp("preference")
    trained.save(folder)
    return folder


def asked(episode: Episode) -> list[Query]:
    frames = [Frame.of(image) for image in episode.images["front"]]
    return [
        Query(task=TASK, newest=(new,), reference=(old,))
        for old, new in zip([frames[0], *frames], frames, strict=False)
    ]


def test_the_classifier_knows_success_it_has_not_seen(classifier: Path) -> None:
    model = load_model(str(classifier), device="cpu")
    assert isinstance(model, Classifier)
    assert model.instruction == TASK.instruction
    assert model.capabilities.signals == ("done", "uncertainty")
    said = model.score(asked(film(20)))
    assert said.done[-1] > 0.8
    assert said.done[0] < 0.2
    assert (said.uncertainty >= 0).all()
    assert np.isnan(said.progress).all()
    assert model.encoded_frames == 12
    stuck = model.score(asked(film(21, until=6)))
    assert stuck.done.max() < 0.5
    again = load_model("classifier", checkpoint=str(classifier), device="cpu")
    assert again.model_id == model.model_id
    np.testing.assert_array_equal(again.score(asked(film(20))).done, said.done)


def test_of_several_cameras_the_least_sure_of_success_counts(classifier: Path) -> None:
    model = Classifier(str(classifier), device="cpu")
    frames = [Frame.of(film(20).images["front"][t]) for t in (0, 11)]
    alone = [model.score([Query(task=TASK, newest=(frame,))]) for frame in frames]
    both = model.score([Query(task=TASK, newest=tuple(frames))])
    assert both.done[0] == pytest.approx(min(one.done[0] for one in alone), abs=1e-6)
    assert both.uncertainty[0] == pytest.approx(max(one.uncertainty[0] for one in alone), abs=1e-6)


def test_the_learned_reward_orders_what_it_has_not_seen(preference: Path) -> None:
    model = load_model(str(preference), device="cpu")
    assert isinstance(model, PreferenceReward)
    queries = asked(film(20))
    said = model.score(queries)
    assert (np.diff(said.progress) > 0).mean() > 0.8
    assert said.progress[-1] > 0.7 > 0.4 > said.progress[0]
    turned = model.score(
        [Query(task=TASK, newest=one.reference, reference=one.newest) for one in queries]
    )
    np.testing.assert_allclose(said.contrastive, -turned.contrastive, atol=1e-6)
    np.testing.assert_allclose(said.progress_delta, -turned.progress_delta, atol=1e-6)
    assert said.progress_delta[0] == said.contrastive[0] == 0.0
    assert np.isnan(said.done).all()
    assert model.encoded_frames == 12


def test_tanh_and_bradley_terry_by_hand(preference: Path) -> None:
    model = PreferenceReward(str(preference), device="cpu")
    queries = asked(film(20))[5:6]
    new, old = model.encode([queries[0].newest[0], queries[0].reference[0]])
    with torch.inference_mode():
        rewards = model.heads(torch.stack([new, old]).float()).tanh().numpy()
    assert rewards.shape == (2, 3)
    said = model.score(queries)
    assert said.progress[0] == pytest.approx((1 + rewards[0].mean()) / 2, abs=1e-6)
    sure = 2 / (1 + np.exp(-(rewards[0] - rewards[1]))) - 1
    assert said.contrastive[0] == pytest.approx(sure.mean(), abs=1e-6)
    assert said.uncertainty[0] == pytest.approx(rewards[0].std(), abs=1e-6)


def test_a_model_may_judge_the_pairs_and_leave_some_open(features: FrozenFeatures) -> None:
    class Judge(OraclePixels):
        """Reads the bar; knows nothing of the upper half."""

        def _encode(self, images: Any, task: Any) -> Any:
            far = [float((image[40, :, 0] > 200).mean()) for image in images]
            return [(min(x, 0.5), 0.0) for x in far]

    examples = read_examples(EPISODES, size=features.encoder.size)
    frames = pool(examples)
    pairs = draw_pairs(frames, 50, np.random.default_rng(0), across=0.5, alike=True)
    said = judged_order(Judge(), frames, pairs)
    truth = np.minimum(frames.progress, 0.5)[pairs]
    np.testing.assert_array_equal(np.sign(said), np.sign((truth[:, 1] - truth[:, 0]).round(3)))
    options = PreferenceOptions(pairs=120, fit=replace(FIT, members=3, steps=60))
    trained = train_preference(features, examples, options=options, judge=Judge())
    assert trained.figures["skipped"] > 10
    assert "oracle-pixels@1 gave an order" in trained.learned_from
    with pytest.raises(DatasetError, match=r"none of .* pairs got an answer"):
        train_preference(features, examples, options=options, judge=Constant())


def test_pairs_are_of_one_sentence_where_they_must_be() -> None:
    other = replace(film(30), instruction="empty the bar")
    frames = pool(read_examples([film(0), film(1), other], size=48))
    rng = np.random.default_rng(0)
    texts = np.array(frames.texts)
    alike = draw_pairs(frames, 200, rng, across=1.0, alike=True)
    assert (texts[alike[:, 0]] == texts[alike[:, 1]]).all()
    mixed = draw_pairs(frames, 200, rng, across=1.0, alike=False)
    assert (texts[mixed[:, 0]] != texts[mixed[:, 1]]).any()
    names = np.array(frames.episodes)
    within = draw_pairs(frames, 200, rng, across=0.0, alike=False)
    assert (names[within[:, 0]] == names[within[:, 1]]).all()
    assert (within[:, 0] != within[:, 1]).all()


def test_frames_come_again_under_sentences_whose_truth_is_known() -> None:
    told = [{"instruction": "empty the bar", "progress": [0.5] * 12, "done": [False] * 12}]
    examples = read_examples([replace(film(0), meta={"counterfactuals": told}), film(1)], size=48)
    assert len(pool(examples)) == 24
    frames = pool(examples, told=True)
    assert frames.texts[24:] == ["empty the bar"] * 12
    np.testing.assert_array_equal(frames.images[24:], frames.images[:12])
    assert not frames.done[24:].any()
    np.testing.assert_array_equal(frames.progress[24:], 0.5)


def test_the_map_is_pooled_by_mean_and_maximum(features: FrozenFeatures) -> None:
    image = film(0).images["front"][5]
    (found,) = features.encoder.maps([image])
    (kept,) = features.encode([image])
    cells = found.float().reshape(64, 2, 6, 2, 6)
    wanted = torch.cat([cells.mean((2, 4)).flatten(), cells.amax((2, 4)).flatten()])
    torch.testing.assert_close(kept.float(), wanted, atol=2e-3, rtol=2e-3)
    assert len(kept) == features.width == 2 * 64 * 4


def test_frames_are_chosen_one_third_of_success() -> None:
    done = np.array([1.0] * 50 + [0.0] * 300 + [np.nan] * 40, np.float32)
    places = choose(done, 100, seed=0)
    assert len(set(places)) == 100
    assert done[places].sum() == 30
    assert len(choose(done, 0, seed=0)) == 350
    with pytest.raises(DatasetError, match="got 0 and 300"):
        choose(done[50:], 100, seed=0)


def test_pointed_features_read_the_sentence(tmp_path: Path) -> None:
    features = FrozenFeatures(FrameEncoder("compact", device="cpu"), "pointed")
    examples = read_examples(EPISODES, size=features.encoder.size)
    options = ClassifierOptions(frames=40, fit=replace(FIT, steps=20))
    train_classifier(features, examples, options=options).save(tmp_path / "m")
    model = load_model(str(tmp_path / "m"), device="cpu")
    assert model.prompt_id
    frame = Frame.of(film(0).images["front"][11])
    said = model.score(
        [Query(task=Task(instruction=text), newest=(frame,)) for text in ("lift it", "open it")]
    )
    assert said.done[0] != said.done[1]
    assert model.encoded_frames == 1


def test_the_harness_takes_models_that_give_some_signals(
    classifier: Path, preference: Path
) -> None:
    models = {"c": load_model(str(classifier), device="cpu"),
              "p": load_model(str(preference), device="cpu")}  # fmt: skip
    episodes = [film(20), film(21, until=6), film(22), film(23, until=6)]
    result = evaluate(models, episodes, options=EvalOptions(resamples=0, sanity=0))
    done, order = (model.overall for model in result.models)
    assert done["success_auc"].value == 1.0
    assert np.isnan(done["voc"].value)
    assert order["voc"].value > 0.9
    assert result.models[0].counts["constant_curves"] == 0
    assert "constant" not in result.models[0].verdicts
    # Who says nothing of done has missed none.
    for figure in ("done_precision", "done_recall", "false_done_per_1000", "ece"):
        assert np.isfinite(done[figure].value)
        assert np.isnan(order[figure].value)


def test_from_recordings_to_a_folder(command: Callable[..., Any], tmp_path: Path) -> None:
    from PIL import Image

    for name, episodes in (("success", range(6)), ("failure", range(6))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for n in episodes:
            image = film(n).images["front"][11 if name == "success" else n]
            Image.fromarray(image).save(tmp_path / "data" / name / f"{n}.png")
    tiny = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=7
    )
    transformers.AutoModel.from_config(tiny).save_pretrained(tmp_path / "tiny")
    flags = ("--data", str(tmp_path / "data"), "--instruction", "fill the bar", "--json")
    ran = command(
        "train-reward", "--preset", "classifier", "--encoder", str(tmp_path / "tiny"),
        "--out", str(tmp_path / "run"), *flags,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    told = json.loads(ran.out.splitlines()[-1])
    assert told["positive"] + 1 <= told["frames"] <= 12
    model = load_model(told["path"], device="cpu")
    assert isinstance(model, Classifier)
    assert model.features.encoder.size == 28
    card = (Path(told["path"]) / "README.md").read_text()
    assert "| held out | every 4th frame of 2 episodes" in card
    ran = command("train-reward", "--preset", "classifier", "--steps", "5", "--pairs", "3", *flags)
    assert ran.code == 2
    assert "--preset classifier knows no --steps, --pairs" in ran.err


def test_a_judge_is_shown_more_than_the_encoder_takes(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    from robo_reward.training import preference

    for number in range(5):
        (tmp_path / "data" / f"run{number}").mkdir(parents=True)
        for t in range(6):
            image = Image.fromarray(film(number).images["front"][2 * t]).resize((160, 120))
            image.save(tmp_path / "data" / f"run{number}" / f"{t}.png")
    shown: list[tuple[int, ...]] = []
    order = preference.judged_order

    def spied(judge: Any, frames: Any, pairs: Any) -> Any:
        shown.append(frames.images.shape[1:])
        return order(judge, frames, pairs)

    monkeypatch.setattr(preference, "judged_order", spied)
    ran = command(
        "train-reward", "--preset", "preference", "--data", str(tmp_path / "data"), "--judge",
        "time-counter", "--pairs", "30", "--instruction", "fill the bar", "--json", "--out",
        str(tmp_path / "run"), "--device", "cpu",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert shown == [(120, 120, 3)]
    model = load_model(json.loads(ran.out.splitlines()[-1])["path"], device="cpu")
    assert isinstance(model, PreferenceReward)
    assert model.features.encoder.size == 96


def test_what_is_no_trained_model_is_refused(
    classifier: Path, features: FrozenFeatures, tmp_path: Path
) -> None:
    with pytest.raises(MissingDependency, match="train-reward --preset classifier"):
        load_model("classifier")
    with pytest.raises(MissingDependency, match="holds no trained rl-vlm-f"):
        load_model("rl-vlm-f", checkpoint=str(tmp_path))
    with pytest.raises(DatasetError, match="holds a classifier, not a rl-vlm-f"):
        load_model("rl-vlm-f", checkpoint=str(classifier))
    with pytest.raises(ConfigError, match="features must be"):
        FrozenFeatures(features.encoder, "all")
    with pytest.raises(ConfigError, match="pairs must be"):
        PreferenceOptions(pairs=0)
