"""LeRobot's own package writes a dataset, relabel labels it, LeRobot opens what came out.

The package pins other versions of half of what this project uses, so it lives in an environment of
its own: ``make lerobot``. It is spoken to through scripts on its interpreter.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PYTHON = Path(__file__).parents[2] / os.environ.get("LEROBOT_VENV", ".venv-lerobot") / "bin/python"

pytestmark = [
    pytest.mark.external,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PYTHON.exists(), reason="no LeRobot here: make lerobot"),
]

Command = Callable[..., Any]
LENGTHS = [12, 15, 9]
CAMERA = "observation.images.front"

# torchvision beside a CPU build of torch lacks its compiled operators; declaring two is enough.
SHIM = """
import torch
_lib = getattr(torch, "library").Library("torchvision", "DEF")
_lib.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_lib.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import json, sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
"""

WRITE = """
root, kind, lengths = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
camera = {"dtype": kind, "shape": (64, 64, 3), "names": ["height", "width", "channels"]}
features = {
    "observation.images.front": camera,
    "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
}
made = LeRobotDataset.create(
    repo_id="test/push", fps=10, features=features, root=root, use_videos=kind == "video"
)
for length in lengths:
    for t in range(length):
        image = np.full((64, 64, 3), round(255 * t / (length - 1)), np.uint8)
        made.add_frame(
            {
                "observation.images.front": image,
                "action": np.full(2, t, np.float32),
                "task": "push the red cube onto the pad",
            }
        )
    made.save_episode()
made.finalize()
"""

READ = """
from lerobot.utils.rabc import RABCWeights
root, progress, whole = sys.argv[1], sys.argv[2], sys.argv[3] == "image"
found = LeRobotDataset(repo_id="test/push", root=root)
table = found.hf_dataset
names = [n for n in table.column_names if n.startswith("label.") or n.startswith("next.")]
columns = {n: [float(v) for v in table[n]] for n in [*names, "index", "episode_index"]}
columns["action"] = [[float(x) for x in row] for row in table["action"]]
item = sorted(found[5]) if whole else []
weights, stats = RABCWeights(progress, chunk_size=3).compute_batch_weights(
    {"index": torch.arange(len(table))}
)
print(json.dumps({"columns": columns, "item": item, "weights": weights.tolist(), **stats}))
"""


def lerobot(script: str, *args: object) -> str:
    done = subprocess.run(
        [str(PYTHON), "-c", SHIM + script, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("kind", ["video", "image"])
def test_there_and_back(kind: str, tmp_path: Path, command: Command) -> None:
    root = tmp_path / "data"
    lerobot(WRITE, root, kind, json.dumps(LENGTHS))
    before = {p: hashlib.sha256(p.read_bytes()).digest() for p in root.rglob("*") if p.is_file()}
    ran = command(
        "relabel", str(root), "--model", "oracle-pixels", "--out", str(tmp_path / "out"),
        "--reward", "dense", "--write", "copy", "progress", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    result = json.loads(ran.out.splitlines()[-1])
    assert (result["kind"], result["frames"], result["failed"]) == ("lerobot", sum(LENGTHS), 0)
    after = {p: hashlib.sha256(p.read_bytes()).digest() for p in root.rglob("*") if p.is_file()}
    assert before == after
    out = tmp_path / "out"
    told = json.loads(lerobot(READ, out / "copy", out / "progress.parquet", kind).splitlines()[-1])
    columns = told["columns"]
    want = np.concatenate([np.linspace(0, 1, length) for length in LENGTHS])
    np.testing.assert_allclose(columns["label.progress"], want, atol=0.03)
    rewards = [[*np.diff(np.linspace(0, 1, length)), 0.0] for length in LENGTHS]
    np.testing.assert_allclose(columns["next.reward"], np.concatenate(rewards), atol=0.05)
    assert columns["index"] == list(range(sum(LENGTHS)))
    assert columns["action"][20] == [8.0, 8.0]
    assert kind == "video" or {CAMERA, "next.reward", "label.done"} <= set(told["item"])
    # Progress rises everywhere but at the end of an episode: most frames get their full weight.
    assert len(told["weights"]) == sum(LENGTHS)
    assert told["num_full_weight"] >= sum(LENGTHS) - 2 * len(LENGTHS)
