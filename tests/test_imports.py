"""What an import pulls in: the robot's computer has neither torch nor mujoco."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "cv2",
    "matplotlib",
    "mujoco",
    "onnxruntime",
    "pyarrow",
    "scipy",
    "stable_baselines3",
    "torch",
    "transformers",
}
CLIENT = {"msgspec", "numpy", "robo_reward", "simplejpeg", "zmq"}
THEIRS = {"cython_runtime", "typing_extensions"}  # loaded by these four where they are there


def loaded_by(code: str) -> set[str]:
    """Top-level modules outside the standard library that a fresh interpreter has after this."""
    show = (
        "; import sys, json; print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"
    )
    bare = subprocess.run(
        [sys.executable, "-c", show.lstrip("; ")], capture_output=True, text=True, check=True
    )
    done = subprocess.run(
        [sys.executable, "-c", code + show], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = set(json.loads(done.stdout)) - set(json.loads(bare.stdout))
    return {n for n in names if n not in sys.stdlib_module_names and not n.startswith("_")}


@pytest.mark.parametrize(
    "module",
    [
        "robo_reward",
        "robo_reward.models",
        "robo_reward.client",
        "robo_reward.envs",
        "robo_reward.nodes",
        "robo_reward.policies",
        "robo_reward.cli",
    ],
)
def test_import_is_light(module: str) -> None:
    assert loaded_by(f"import {module}") & HEAVY == set()


def test_client_needs_four_packages() -> None:
    code = "import robo_reward.client; from robo_reward.client import connect"
    assert loaded_by(code) - CLIENT - THEIRS == set()


def test_help_needs_no_package() -> None:
    code = "import robo_reward.cli, io, contextlib\n"
    code += "with contextlib.redirect_stdout(io.StringIO()): robo_reward.cli.main(['--help'])\n"
    assert loaded_by(code + "pass") == {"robo_reward"}


def test_public_names_are_there() -> None:
    import robo_reward

    for name in robo_reward.__all__:
        assert getattr(robo_reward, name) is not None
        assert name in dir(robo_reward)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = robo_reward.no_such_name


def test_folders_are_imported_once() -> None:
    loaded = loaded_by("import robo_reward.envs, robo_reward.nodes, robo_reward.assets")
    assert loaded & {"envs", "nodes", "assets"} == set()
