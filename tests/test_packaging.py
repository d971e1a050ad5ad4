"""The wheel holds what the source tree shows: one package, complete, without media."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
LINKED = ("envs", "nodes", "policies", "assets")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built as a user would, from the sdist, but with the hatchling that is installed."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "-o", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.parametrize("name", LINKED)
def test_folder_is_not_a_top_level_module(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    with pytest.raises(ImportError, match=f"robo_reward.{name}"):
        importlib.import_module(name)


def test_wheel_has_one_top_level_package(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"robo_reward"}


def test_wheel_is_complete(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    wanted = {"robo_reward/py.typed"}
    for folder in ("robo_reward", *LINKED):
        below = "" if folder == "robo_reward" else "robo_reward/"
        wanted |= {
            below + path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*.py")
            if "__pycache__" not in path.parts and not is_linked(path)
        }
    wanted |= {f"robo_reward/assets/mjcf/{p.name}" for p in (ROOT / "assets/mjcf").glob("*.xml")}
    wanted |= {f"robo_reward/assets/prompts/{p.name}" for p in (ROOT / "assets/prompts").iterdir()}
    assert wanted - names == set()


def test_wheel_holds_no_media_and_no_tests(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert [
        n for n in names if "assets/media" in n or n.startswith("tests") or "__pycache__" in n
    ] == []


def test_wheel_names_licence_and_command(wheel: zipfile.ZipFile) -> None:
    info = {n.partition(".dist-info/")[2]: n for n in wheel.namelist() if ".dist-info/" in n}
    assert "licenses/LICENSE" in info
    assert "robo-reward = robo_reward.cli:main" in wheel.read(info["entry_points.txt"]).decode()


def test_wheel_works_without_links(tmp_path: Path) -> None:
    # What a checkout with core.symlinks=false looks like: text files where the links should be.
    tree = tmp_path / "tree"
    skip = shutil.ignore_patterns(".*", "__pycache__", "tests", "outputs", "data", "media")
    shutil.copytree(ROOT, tree, symlinks=True, ignore=skip)
    for name in LINKED:
        (tree / "robo_reward" / name).unlink()
        (tree / "robo_reward" / name).write_text(f"../{name}")
    code = "import robo_reward.envs as e, robo_reward.assets as a; print(e.__file__, a.ROOT)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(tree / "envs") in done.stdout
    assert str(tree / "assets") in done.stdout
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "-w", "-o", tmp_path / "dist", tree],
        check=True,
        capture_output=True,
    )
    (path,) = (tmp_path / "dist").glob("*.whl")
    assert "robo_reward/envs/__init__.py" in zipfile.ZipFile(path).namelist()


def test_ranges_are_open() -> None:
    lines = list(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        lines += extra
    assert [line for line in lines if "==" in line or re.search(r"<(?!=?\d*$)", line)] == []
    assert not any("<" in line for line in lines if line.startswith("numpy"))


def test_require_names_an_extra_that_brings_the_package() -> None:
    other = {"PIL": "pillow", "cv2": "opencv-python", "yaml": "pyyaml"}
    extras = PROJECT["optional-dependencies"]
    wrong = []
    for folder in ("robo_reward", "envs", "nodes", "policies"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for module, extra in re.findall(r'\brequire\("([\w.]+)", extra="(\w+)"\)', text):
                top = module.partition(".")[0]
                name = other.get(top) or top.replace("_", "-")
                if name not in {re.split(r"[\[><=]", line)[0] for line in extras.get(extra, [])}:
                    wrong.append(f"{path.relative_to(ROOT)}: {module} is not in [{extra}]")
    assert wrong == []


def test_base_install_is_small() -> None:
    names = {re.match(r"[\w-]+", line).group() for line in PROJECT["dependencies"]}  # type: ignore[union-attr]
    assert names == {"gymnasium", "msgspec", "numpy", "pyzmq", "simplejpeg", "tyro"}


def test_all_names_every_extra_but_the_one_that_holds_mujoco_back() -> None:
    extras = dict(PROJECT["optional-dependencies"])
    (everything,) = extras.pop("all")
    del extras["external"]
    assert set(everything.partition("[")[2].rstrip("]").split(",")) == set(extras)


def test_no_extra_pulls_torchvision() -> None:
    # Its wheels replace a CPU torch by a CUDA build. LeRobot's package wants it, in .venv-lerobot.
    for path in set(ROOT.glob("requirements*.txt")) - {ROOT / "requirements-lerobot.txt"}:
        names = {line.partition("==")[0] for line in path.read_text().splitlines()}
        assert names & {"torch", "torchvision", "timm", "opencv-python"} == set()


def test_locks_hold_every_dependency() -> None:
    for path in ROOT.glob("requirements-py*.txt"):
        locked = {line.partition("==")[0].lower() for line in path.read_text().splitlines()}
        for extra in ("camera", "sim", "serve", "train", "rl", "data", "viz"):
            for line in PROJECT["optional-dependencies"][extra]:
                name = re.split(r"[\[><=]", line)[0]
                assert name in locked | {"torch", "opencv-python"}, (
                    f"{path.name}: {name}; make lock"
                )


def is_linked(path: Path) -> bool:
    return any(parent.is_symlink() for parent in path.parents if ROOT in parent.parents)
