"""What each generative model makes of an answer, worked by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from robo_reward.errors import ConfigError
from robo_reward.frames import Frame
from robo_reward.models import load_model
from robo_reward.models.gvl import shuffled
from robo_reward.models.robometer import PROGRESS
from robo_reward.models.sole_r1 import GAP, SIDE, composite, tile
from robo_reward.models.vlac import integrated, signed
from robo_reward.models.vlm.passage import Picture
from robo_reward.query import Query
from robo_reward.task import Task

Tiny = Callable[[str], Path]
TASK = Task(instruction="open the drawer")


def frame(level: int) -> Frame:
    return Frame.of(np.full((40, 40, 3), level, np.uint8))


def load(tiny: Tiny, name: str, **options: Any) -> Any:
    return load_model(f"{name}={tiny('qwen3_vl')}", device="cpu", **options)


def query(newest: int, reference: int, *, first: int | None = None, goal: int = -1) -> Query:
    task = Task(instruction="open", goal=frame(goal)) if goal >= 0 else TASK
    history = () if first is None else ((frame(first),),)
    return Query(task=task, newest=(frame(newest),), reference=(frame(reference),), history=history)


def level_of(parts: Sequence[Any]) -> int:
    """The grey of the one picture that a placeholder shows."""
    (picture,) = parts
    return next(level for level in range(256) if frame(level).id == picture.key)


def test_two_thirds_of_what_remains() -> None:
    progress, change = np.array([0.0, 0.4, 0.4, 1.0]), np.array([0.5, 0.5, -0.5, 0.5])
    np.testing.assert_allclose(integrated(progress, change), [0.5, 0.7, 0.2, 1.0])
    assert [signed(value) for value in (12, 0, -100)] == ["+12", "0", "-100"]


def answering(says: Callable[[int, int], float], answers: Sequence[str]) -> Callable[..., Any]:
    """A model that is sure of ``says(before, after)`` percent, whatever the pictures' places."""

    def choose(fillings: Sequence[Any], asked: Sequence[str], **_: Any) -> Any:
        rows = np.zeros((len(fillings), len(asked)))
        for row, filling in enumerate(fillings):
            if list(asked) != list(answers):
                rows[row, 0] = 1.0
                continue
            before = level_of(filling.get("reference") or filling["before_front"])
            after = level_of(filling.get("frame") or filling["after_front"])
            rows[row, asked.index(signed(round(says(before, after))))] = 1.0
        return rows

    return choose


PERCENT = [signed(value) for value in range(-100, 101)]


def test_vlac_integrates_from_the_first_frame(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tiny, "vlac")
    # From 0 to 40: half of the way; from 40 to 80: half of what is left.
    says = {(0, 40): 50, (40, 80): 50, (40, 0): -50, (80, 40): -50}
    choose = answering(lambda before, after: says[before, after], PERCENT)
    monkeypatch.setattr(model, "choose", choose)
    row = model.score([query(80, 40, first=0)]).row(0)
    assert row.progress == pytest.approx(0.75)
    assert row.progress_delta == pytest.approx(0.25)
    assert row.done == 1.0
    assert model.score([query(40, 40, first=0)]).row(0).progress_delta == 0


def test_vlac_cancels_a_liking_for_the_second(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = answering(lambda _before, _after: 30, PERCENT)
    for symmetric, want in ((True, 0.0), (False, 0.3)):
        model = load(tiny, "vlac", symmetric=symmetric)
        monkeypatch.setattr(model, "choose", choose)
        assert model.score([query(80, 40)]).row(0).progress_delta == pytest.approx(want)
    quiet = load(tiny, "vlac", symmetric=False, dead_band=0.31)
    monkeypatch.setattr(quiet, "choose", choose)
    assert quiet.score([query(80, 40)]).row(0).progress_delta == 0
    with pytest.raises(ConfigError, match=r"dead_band must be in \[0, 1\)"):
        load(tiny, "vlac", dead_band=1.5)


def test_robo_dopamine_fuses_both_ends(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    # Levels are progress in percent: 0 the start, 100 the goal.
    def hop(before: int, after: int) -> float:
        gain = after - before
        return 100 * gain / (100 - before) if gain >= 0 else 100 * gain / before - 10

    choose = answering(hop, PERCENT)
    for mode, want in (("forward", 0.6), ("backward", 0.5), ("fusion", 0.55)):
        model = load(tiny, "robo-dopamine", mode=mode)
        monkeypatch.setattr(model, "choose", choose)
        row = model.score([query(60, 20, first=0, goal=100)]).row(0)
        assert row.progress == pytest.approx(want)
        assert row.progress_delta == pytest.approx(0.4)
        alone = model.score([query(60, 20, first=0)]).row(0)  # no goal: forward is left
        assert alone.progress == pytest.approx(0.6)


@pytest.mark.parametrize("name", ["lrm", "rl-vlm-f-judge"])
def test_comparisons_are_antisymmetric(name: str, tiny: Tiny) -> None:
    model = load(tiny, name)
    rows = model.score([query(80, 10), query(10, 80), query(10, 10)])
    assert rows.contrastive[0] == pytest.approx(-rows.contrastive[1], abs=1e-6)
    assert abs(rows.contrastive[0]) > 1e-4
    assert rows.contrastive[2] == 0


def test_a_label_is_which_picture_is_better(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tiny, "rl-vlm-f-judge", symmetric=False)
    monkeypatch.setattr(model, "choose", lambda f, _: np.tile([[0.1, 0.7, 0.2]], (len(f), 1)))
    row = model.score([query(80, 10)]).row(0)
    assert row.contrastive == pytest.approx(0.6)
    assert row.uncertainty == pytest.approx(0.4)


def test_gvl_gives_the_newest_frame_its_own_number(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(tiny, "gvl")
    history = tuple((frame(level),) for level in (0, 30, 60))
    asked = Query(task=TASK, newest=(frame(90),), history=history)
    keys = [frame(level).id for level in (30, 60, 90)]
    order = shuffled(keys)
    assert sorted(order) == [0, 1, 2]
    assert order == shuffled(keys)
    assert any(shuffled([str(i), "b", "c", "d"]) != shuffled(["a", "b", "c", str(i)]) for i in "12")
    said: list[str] = []

    def weigh(passages: Sequence[Any], tails: Sequence[Any]) -> list[Any]:
        # The nth number asked for is n tenths.
        said.append(model.backbone.writer.text(tails[0][0]))
        return [np.log(np.eye(101)[10 * len(said)] + 1e-12) for _ in passages]

    monkeypatch.setattr(model.backbone, "weigh", weigh)
    place = order.index(2)
    assert model.score([asked]).row(0).progress == pytest.approx((place + 1) / 10, abs=1e-6)
    assert [text.partition(",")[0] for text in said] == [
        f'{{"frame": {number}' for number in range(1, place + 2)
    ]


def test_sole_r1_puts_instants_side_by_side_and_cameras_above_each_other() -> None:
    wide = tile(np.full((10, 20, 3), 200, np.uint8))
    assert wide.shape == (SIDE, SIDE, 3)
    assert wide[SIDE // 2, 0, 0] == 200
    assert wide[0, SIDE // 2, 0] == 0  # bars above and below
    views = [Picture(key=str(level), seen=tile(frame(level).image)) for level in (50, 90)]  # type: ignore[arg-type]
    made = composite(views, views[::-1])
    assert made.shape == (2 * SIDE + GAP, 2 * SIDE + GAP, 3)
    corners = [made[y, x, 0] for y in (0, -1) for x in (0, -1)]
    assert corners == [50, 90, 90, 50]
    assert composite(views[:1], views[1:]).shape == (SIDE, 2 * SIDE + GAP, 3)


def test_several_views_are_shown(tiny: Tiny) -> None:
    for name in ("robo-dopamine", "sole-r1"):
        model = load(tiny, name)
        one = Query(task=TASK, newest=(frame(80),), history=((frame(10),),))
        wrist = Query(task=TASK, newest=(frame(80), frame(200)), history=((frame(10), frame(150)),))
        progress = model.score([one, wrist]).progress
        assert progress[0] != progress[1], name


def test_lrm_reads_tenths_and_yes(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tiny, "lrm")
    said = {"progress_prompt": np.eye(11)[[7]], "completion_prompt": np.array([[0.9, 0.1]])}
    said["contrastive_prompt"] = np.array([[0.3, 0.7]])
    monkeypatch.setattr(model, "choose", lambda f, _, *, use: np.repeat(said[use], len(f), axis=0))
    row = model.score([query(80, 10)]).row(0)
    assert (row.progress, row.progress_delta) == (pytest.approx(0.7), 0)
    assert row.done == pytest.approx(0.9)
    assert row.contrastive == pytest.approx(0)  # the same liking in both orders
    with pytest.raises(ConfigError, match="several prompts; replace one: contrastive_prompt=FILE"):
        load(tiny, "lrm", prompt="mine.txt")


def test_a_demonstration_is_read(tiny: Tiny) -> None:
    shown = Task(instruction=TASK.instruction, demo=(frame(0), frame(120), frame(240)))
    for name in ("vlac", "gvl"):
        model = load(tiny, name)
        pairs = (80, 10), (10, 80)  # one of them is a gain
        bare, informed = (
            model.score(
                [Query(task=task, newest=(frame(a),), reference=(frame(b),)) for a, b in pairs]
            ).progress
            for task in (TASK, shown)
        )
        assert (bare != informed).any(), name


def test_a_model_may_think_first(tiny: Tiny) -> None:
    plain, thinking = load(tiny, "roboreward"), load(tiny, "roboreward", think=5)
    assert plain.model_id != thinking.model_id
    asked = [query(80, 10)]
    assert plain.score(asked).progress[0] != thinking.score(asked).progress[0]


def test_robometer_reads_its_heads_where_they_were_trained(tiny: Tiny) -> None:
    import torch
    from safetensors.torch import load_file
    from torch.nn import functional

    model = load_model(f"robometer={tiny('robometer')}", device="cpu")
    history = tuple((frame(level),) for level in (0, 60))
    row = model.score([Query(task=TASK, newest=(frame(120),), history=history)]).row(0)
    # The same by hand: a plain pass over the whole prompt, then the heads of the file.
    backbone: Any = model.backbone  # type: ignore[attr-defined]
    seen = [
        Picture(key=frame(level).id, seen=backbone.see([frame(level).image])[0])
        for level in (0, 60, 120)
    ]
    parts = [part for n, one in enumerate(seen, 1) for part in (f"Picture {n}: ", one, PROGRESS)]
    turns = model.texts["prompt"].fill({"instruction": [TASK.text], "clip": parts})  # type: ignore[attr-defined]
    passage = backbone.writer.write(turns)
    token = len(backbone.writer.tokenizer) - 1
    places = [place for place, one in enumerate(passage.tokens) if one == token]
    assert len(places) == 3
    passage.marks = places
    backbone.reuse = False
    state = backbone.read([passage])[0][-1]
    held = load_file(tiny("robometer") / "model.safetensors")

    def head(name: str) -> torch.Tensor:
        first = functional.linear(state, held[f"{name}.0.weight"], held[f"{name}.0.bias"])
        norm = torch.nn.LayerNorm(len(first))
        norm.load_state_dict({k: held[f"{name}.1.{k}"] for k in ("weight", "bias")})
        inner = functional.gelu(norm(first))
        return functional.linear(inner, held[f"{name}.4.weight"], held[f"{name}.4.bias"])

    with torch.no_grad():
        bins = head("progress_head").softmax(0)
        assert row.progress == pytest.approx(
            float((bins * torch.linspace(0, 1, 10)).sum()), abs=1e-5
        )
        assert row.done == pytest.approx(float(head("success_head").sigmoid()), abs=1e-5)
    # The weights are those of the file, not fresh ones.
    name = "model.model.language_model.layers.0.self_attn.q_proj.weight"
    loaded = backbone.model.model.language_model.layers[0].self_attn.q_proj.weight
    assert torch.equal(loaded, held[name])


def test_a_backbone_without_heads_is_no_robometer(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match=r"is no robometer: its files hold no progress_head\.\*"):
        load_model(f"robometer={tiny('qwen3_vl')}", device="cpu")


def test_rynnvalue_reads_seconds_as_its_own_attention_would(tiny: Tiny) -> None:
    """Against a pass over the whole published layout, query tokens of every frame among it."""
    import torch

    model: Any = load_model(f"rynnvalue={tiny('rynnvalue')}", device="cpu")
    levels, repeat = (0, 120, 240), 3
    backbone, writer = model.backbone, model.backbone.writer
    seen = [
        Picture(key=frame(level).id, seen=backbone.see([frame(level).image])[0]) for level in levels
    ]
    value, relative = (writer.token(name) for name in ("<value>", "<relative_value>"))
    full = writer.write(model.texts["prompt"].fill({"instruction": [TASK.text], "clip": seen}))
    starts, count = list(full.pictures), len(seen[0].seen.tokens)
    layout, slots, pictures = full.tokens[: starts[0] - 1], [], []
    for number, start in enumerate(starts):
        pictures.append(len(layout) + 1)
        layout += full.tokens[start - 1 : start + count + 1]
        for token in [relative] * (number > 0) + [value]:
            slots.append(range(len(layout), len(layout) + repeat))
            layout += [token] * repeat
    size = len(layout)
    reads = np.tril(np.ones((size, size), bool))
    for slot in slots:  # nobody reads a slot but itself, which reads both ways
        reads[:, slot] = False
        reads[np.ix_(slot, slot)] = True
    kinds = torch.zeros((1, size), dtype=torch.int32)
    for start in pictures:
        kinds[0, start : start + count] = 1
    inner = backbone.model.model
    grids = torch.tensor([one.seen.grid for one in seen])
    places, _ = inner.get_rope_index(
        torch.tensor([layout]), mm_token_type_ids=kinds, image_grid_thw=grids
    )
    mask = torch.where(torch.from_numpy(reads), 0.0, torch.finfo(torch.float32).min)
    with torch.inference_mode(), backbone._standing_in(seen):
        out = inner(
            input_ids=torch.tensor([layout]),
            attention_mask=mask[None, None],
            position_ids=places,
            pixel_values=torch.zeros(1),
            image_grid_thw=grids,
        )
    wanted = out.last_hidden_state[0, list(slots[-1])]
    history = tuple((frame(level),) for level in levels[:-1])
    asked = Query(task=TASK, newest=(frame(levels[-1]),), history=history)
    states: list[Any] = []
    read = backbone.read

    def watched(passages: Sequence[Any]) -> Any:
        states.append(read(passages))
        return states[-1]

    backbone.read = watched
    row = model.score([asked]).row(0)
    torch.testing.assert_close(states[0][0], wanted, atol=1e-5, rtol=0)
    assert 0.0 <= row.progress <= 1.0


def test_rynnvalue_turns_seconds_into_progress(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    left = {0: 40.0, 60: 30.0, 120: 10.0}

    def seconds(shown: Sequence[Any]) -> tuple[Any, Any]:
        found = [left[level_of(clip[-1:])] for _, clip in shown]
        return np.array(found), np.zeros(len(found))

    asked = query(120, 60, first=0)
    for horizon, progress, delta in ((0.0, 0.75, 0.5), (100.0, 0.9, 0.2)):
        model = load_model(f"rynnvalue={tiny('rynnvalue')}", device="cpu", horizon=horizon)
        monkeypatch.setattr(model, "seconds", seconds)
        row = model.score([asked]).row(0)
        assert row.progress == pytest.approx(progress)
        assert row.progress_delta == pytest.approx(delta)
    with pytest.raises(ConfigError, match="flash_attention_2 cannot; take sdpa"):
        load_model(f"rynnvalue={tiny('rynnvalue')}", attention="flash_attention_2")
