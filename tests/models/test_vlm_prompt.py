"""Prompt files, and what is read out of distributions."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from robo_reward.assets import ROOT
from robo_reward.errors import ConfigError
from robo_reward.models.vlm.options import VlmOptions, read_options
from robo_reward.models.vlm.prompt import Prompt, read_prompt
from robo_reward.models.vlm.readings import affine, doubt, expectation, softmax

TEXT = """# A note with {braces}.
[system]
You judge robots.
[user]
{clip}
Task: {instruction}
Goal: {goal}
Answer as {"value": 3}.
[answer]
{"value": {answer}}
"""


def read(folder: Path, text: str, needs: tuple[str, ...] = ("clip", "instruction")) -> Prompt:
    path = folder / "mine.txt"
    path.write_text(text)
    return read_prompt(path, needs=needs, may=("goal",))


def test_a_prompt_is_filled_in_the_order_of_its_file(tmp_path: Path) -> None:
    prompt = read(tmp_path, TEXT)
    assert (prompt.opening, prompt.closing) == ('{"value": ', "}")
    assert prompt.id.startswith("mine@")
    turns = prompt.fill({"clip": ["<1>", "<2>"], "instruction": ["push"], "goal": []})
    assert turns == [
        ("system", ["You judge robots."]),
        ("user", ['<1><2>\nTask: push\nAnswer as {"value": 3}.']),
    ]
    (_, said) = prompt.fill({"clip": ["<1>"], "instruction": ["push"], "goal": ["<g>"]})[1]
    assert "Goal: <g>\n" in str(said[0])


def test_another_text_is_another_id(tmp_path: Path) -> None:
    assert read(tmp_path, TEXT).id != read(tmp_path, TEXT + " ").id


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[user]\n{clip}", r"lacks \{instruction\}"),
        ("[user]\n{instruction}", r"lacks \{clip\}; this model fills \{clip\}, \{goal\}, \{inst"),
        ("[user]\n{clip}{instruction}{gaol}", r"has \{gaol\}, which is not filled; did you mean"),
        ("[user]\n{clip}{instruction}\n[answer]\nNow:", r"has \[answer\] without \{answer\}"),
        ("{clip}{instruction}", r"needs a section \[user\], or \[raw\] alone"),
        ("[raw]\n{clip}\n[user]\n{instruction}", r"needs a section \[user\], or \[raw\] alone"),
    ],
)
def test_an_unfit_prompt_is_refused(text: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=why):
        read(tmp_path, text)


def test_a_prompt_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_prompt(tmp_path / "none.txt", needs=())


def test_every_shipped_prompt_can_be_read() -> None:
    files = sorted((ROOT / "prompts").glob("*.txt"))
    assert files
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# "), path
        names = set(re.findall(r"\{(\w+)\}", text)) - {"answer", "number"}
        assert names
        assert read_prompt(path, needs=names).turns


def test_options_have_types_and_names() -> None:
    options = read_options(VlmOptions, {"batch": "4", "reuse": "false", "bits": "8"}, model="gvl")
    assert (options.batch, options.reuse, options.bits) == (4, False, 8)
    assert read_options(VlmOptions, {"batch": 2}, model="gvl").batch == 2
    with pytest.raises(ConfigError, match="gvl has no option bacth; did you mean batch"):
        read_options(VlmOptions, {"bacth": "4"}, model="gvl")
    for wrong in ({"batch": "0"}, {"bits": "5"}, {"dtype": "float8"}):
        with pytest.raises(ConfigError, match="gvl: "):
            read_options(VlmOptions, wrong, model="gvl")


def test_numbers_out_of_distributions() -> None:
    even = softmax(np.log([[1.0, 1.0], [3.0, 1.0]]))
    np.testing.assert_allclose(even, [[0.5, 0.5], [0.75, 0.25]])
    np.testing.assert_allclose(expectation(even, [1, 5]), [3.0, 2.0])
    np.testing.assert_allclose(doubt(np.array([[0.5, 0.5], [1.0, 0.0]])), [1.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(
        affine(np.array([-30.0, -25.0, -15.0, -5.0, 0.0]), low=-25, high=-5), [0, 0, 0.5, 1, 1]
    )
