"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("robo_reward", "envs", "nodes", "policies", "assets", "tests")
MAX_LINES = 600
MEDIAN_LINES = 200
EXPECTED_ROOT = {
    "assets",
    "envs",
    "nodes",
    "policies",
    "robo_reward",
    "tests",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "pyproject.toml",
}
ROOT_EXTRAS = re.compile(r"\.|requirements[\w.-]*\.txt$|constraints[\w.-]*\.txt$")


def tracked() -> list[Path]:
    """Files of the tree, links left out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in names.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def modules() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py"]


def test_modules_are_short() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in modules()
    }
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}
    ours = sorted(length for name, length in lengths.items() if not name.startswith("tests/"))
    assert ours[len(ours) // 2] <= MEDIAN_LINES


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils.py", "util.py", "helpers.py", "misc.py", "common_utils.py"}
    assert [path for path in modules() if path.name in drawers] == []


def imports() -> Iterator[tuple[str, str]]:
    """``file:line`` and the top-level package of each absolute import."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
                yield place, name.partition(".")[0]


def test_no_pickle() -> None:
    # Tests may: that a source survives multiprocessing, which pickles, is one of them.
    banned = {"pickle", "cloudpickle", "dill"}
    found = [place for place, name in imports() if name in banned]
    assert [place for place in found if not place.startswith("tests/")] == []


def test_folders_are_imported_through_the_package() -> None:
    folders = {"envs", "nodes", "policies", "assets"}
    assert [place for place, name in imports() if name in folders] == []


def test_no_machine_paths() -> None:
    # Written in two parts, so that this file does not find itself.
    pattern = re.compile(
        "|".join(("/wo" + r"rk/", "/ro" + r"ot/", "/ho" + r"me/\w", r"\.lib" + "rary"))
    )
    text = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".json", ".xml", ".cfg", ""}
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked()
        if path.suffix in text and path.stat().st_size < 1_000_000
        for match in [pattern.search(path.read_text(encoding="utf-8", errors="replace"))]
        if match
    ]
    assert found == []


def test_no_stubs() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
    found = [
        str(path.relative_to(ROOT))
        for path in modules()
        if marks.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_root_is_what_was_asked_for() -> None:
    top = {path.relative_to(ROOT).parts[0] for path in tracked()}
    extras = {name for name in top - EXPECTED_ROOT if not ROOT_EXTRAS.match(name)}
    assert extras == set()


@pytest.mark.parametrize("folder", ["envs", "nodes", "policies", "assets"])
def test_links_stand(folder: str) -> None:
    link = ROOT / "robo_reward" / folder
    if not link.is_symlink():
        pytest.skip("checkout without links")
    assert link.resolve() == ROOT / folder
