"""Checkpoints that are not there, are of something else, or cannot be what they say."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from robo_reward.errors import (
    ConfigError,
    DeviceError,
    MissingDependency,
    ModelError,
    ModelNotFound,
)
from robo_reward.models import load_model
from robo_reward.models.vlm import checkpoint
from robo_reward.models.vlm.checkpoint import fingerprint
from robo_reward.models.vlm.loading import add_adapter

Tiny = Callable[[str], Path]


@pytest.fixture
def copy(tiny: Tiny, tmp_path: Path) -> Path:
    """A checkpoint that a test may spoil."""
    return Path(shutil.copytree(tiny("qwen3_vl"), tmp_path / "copy"))


def load(folder: Path | str, **options: Any) -> None:
    load_model(f"topreward={folder}", device="cpu", **options).close()


def test_weights_that_are_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFound, match="no folder nowhere/at/all, and it is no hub id"):
        load("nowhere/at/all")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingDependency, match=r"hub may not be asked; name a folder.*--model t"):
        load("nobody/nothing")
    with pytest.raises(MissingDependency, match="Qwen/Qwen3-VL-8B-Instruct are not on this"):
        load_model("topreward", device="cpu")


def test_a_hub_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    for name in ("HF_HUB_OFFLINE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port}")
    with pytest.raises(MissingDependency, match="the hub does not answer; name a folder"):
        load("nobody/nothing")
    with pytest.raises(MissingDependency, match="hub may not be asked"):
        load("nobody/nothing", offline=True)
    with socket.create_server(("127.0.0.1", free_port)):
        assert checkpoint._hub_answers()


def test_a_checkpoint_of_something_else(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    with pytest.raises(ConfigError, match="is a llama checkpoint; topreward runs on idefics3, int"):
        load(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"is no checkpoint: config\.json: "):
        load(copy)
    (copy / "config.json").unlink()
    with pytest.raises(ConfigError, match="is no checkpoint"):
        load(copy)


def test_pickled_weights_are_not_loaded(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(MissingDependency, match=r"no \.safetensors file; pickled weights are not"):
        load(copy)


def test_cut_weights(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(ModelError, match="does not load"):
        load(copy)


def test_without_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="does not load"):
        load(copy)


def test_devices_and_packages(copy: Path) -> None:
    with pytest.raises(DeviceError, match="no device tpu here"):
        load_model(f"topreward={copy}", device="tpu")
    with pytest.raises(ConfigError, match="bits=4 needs a GPU"):
        load(copy, bits=4)


def test_an_adapter_needs_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not through load_model: transformers would remember for the whole process that there is none.
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependency, match=r'pip install "robo-reward\[vlm\]"'):
        add_adapter(None, "somewhere", name="default", offline=True)


def test_the_name_of_weights_is_what_they_are(copy: Path, tiny: Tiny) -> None:
    assert fingerprint(copy) == fingerprint(tiny("qwen3_vl"))
    path = copy / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    assert fingerprint(copy) != fingerprint(tiny("qwen3_vl"))


def test_an_older_chat_template_is_found(copy: Path) -> None:
    template = (copy / "chat_template.jinja").read_text()
    (copy / "chat_template.jinja").unlink()
    (copy / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    load_model(f"roboreward={copy}", device="cpu").close()


@pytest.mark.filterwarnings("ignore")  # those of peft, while adapters are made
def test_three_adapters_share_one_backbone(tiny: Tiny, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    from robo_reward.frames import Frame
    from robo_reward.query import Query
    from robo_reward.task import Task

    base = tiny("qwen3_vl")
    parts = {"contrastive": "language_model.*q_proj", "progress": "language_model.*v_proj"}
    parts |= {"completion": "language_model.*o_proj", "eye": "visual.*qkv"}
    for use, names in parts.items():
        model = transformers.AutoModelForImageTextToText.from_pretrained(base)
        config = peft.LoraConfig(r=2, target_modules=f".*{names}", init_lora_weights=False)
        peft.get_peft_model(model, config).save_pretrained(tmp_path / use)
    frames = [Frame.of(np.full((40, 40, 3), level, np.uint8)) for level in (30, 200)]
    query = Query(task=Task(instruction="open"), newest=(frames[1],), reference=(frames[0],))
    shared = load_model(f"lrm={base},adapters={tmp_path}", device="cpu").score([query])
    for use, signal in (("progress", "progress"), ("completion", "done")):
        alone = load_model(f"lrm={base},adapter={tmp_path / use}", device="cpu").score([query])
        assert getattr(shared, signal)[0] == pytest.approx(getattr(alone, signal)[0], abs=1e-5)
    assert shared.progress[0] != load_model(f"lrm={base}", device="cpu").score([query]).progress[0]
    shutil.rmtree(tmp_path / "progress")
    shutil.copytree(tmp_path / "eye", tmp_path / "progress")
    with pytest.raises(ConfigError, match="changes the vision tower, which several adapters share"):
        load_model(f"lrm={base},adapters={tmp_path}", device="cpu")
