"""Weights are safetensors and nothing else: what can run code when it is read is never opened."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest

from robo_reward.assets import ROOT
from robo_reward.errors import RoboRewardError
from robo_reward.models.registry import load_model

torch = pytest.importorskip("torch")
SHIPPED = ROOT / "compact"


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    return tmp_path / "sprung"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    shutil.copytree(SHIPPED, made)
    return made


def written(trap: Trap, path: Path, *, how: str) -> None:
    if how == "pickle":
        path.write_bytes(pickle.dumps(trap))
    else:
        torch.save({"weight": torch.zeros(2), "trap": trap}, path)


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_under_the_name_of_weights_is_refused(
    folder: Path, sprung: Path, how: str
) -> None:
    written(Trap(sprung), folder / "model.safetensors", how=how)
    with pytest.raises(RoboRewardError) as caught:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    assert not sprung.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl"])
@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_beside_missing_weights_is_not_looked_at(
    folder: Path, sprung: Path, name: str, how: str
) -> None:
    (folder / "model.safetensors").unlink()
    written(Trap(sprung), folder / name, how=how)
    with pytest.raises(RoboRewardError, match=r"model\.safetensors"):
        load_model(str(folder), device="cpu")
    assert not sprung.exists()


def test_the_trap_would_spring(tmp_path: Path, sprung: Path) -> None:
    written(Trap(sprung), tmp_path / "x", how="pickle")
    pickle.loads((tmp_path / "x").read_bytes())
    assert sprung.exists()


def test_a_configuration_cannot_name_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Model"}
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RoboRewardError, match="auto_map"):
        load_model(str(folder), device="cpu")
