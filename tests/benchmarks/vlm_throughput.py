"""What each step away from one generation per query is worth, on one episode of one backbone.

    python tests/benchmarks/vlm_throughput.py --size tiny --steps 80
    python tests/benchmarks/vlm_throughput.py --size 8b --device cuda --peak-tflops 989 --json

RoboReward's question is asked at every step of an episode about the first, the newest and evenly
spaced frames between, five ways: an answer generated in text, pictures seen anew for every query
(what a judge behind a chat server costs); the digits' distribution from one prefill; pictures seen
once; the beginning that queries share read once, one query at a time as a robot asks; and the whole
episode in batches, as a relabelling run asks. Weights are random, so the answers mean nothing and
only time is measured. ``tiny`` is a backbone of 0.3 M weights for a CPU: it shows the shape of the
table, not what a GPU gains. ``4b`` and ``8b`` have the published shapes of Qwen3-VL and want a GPU;
they were not run here. Seconds are those of this process's CPU time without a GPU, so that other
processes do not count, and wall-clock time with one. ``tokens`` went through the language model
(generation: of the prompts alone); the share of the peak is 2 · weights · tokens over time.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from robo_reward.frames import Frame
from robo_reward.history import looked_back
from robo_reward.models import RewardModel, load_model
from robo_reward.query import Query
from robo_reward.task import Task
from tests.models import tiny_vlm

TASK = Task(instruction="put the red cube on the blue pad")
ANSWER_TOKENS = 8
BATCH = 16
SHAPES: dict[str, dict[str, Any]] = {
    "4b": {
        "text": {"hidden_size": 2560, "intermediate_size": 9728},
        "vision": {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096},
        "deepstack": [5, 11, 17],
    },
    "8b": {
        "text": {"hidden_size": 4096, "intermediate_size": 12288},
        "vision": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304},
        "deepstack": [8, 16, 24],
    },
}


def build_full(size: str, folder: Path) -> Path:
    """Write Qwen3-VL of a published shape with random weights, in bfloat16."""
    shape, hf = SHAPES[size], tiny_vlm.hf
    words = tiny_vlm.tokenizer(tiny_vlm.QWEN, picture="<|vision_start|><|image_pad|><|vision_end|>")
    rope = {**tiny_vlm.rope(interleaved=True), "rope_theta": 5e6, "mrope_section": [24, 20, 20]}
    config = hf.Qwen3VLConfig(
        text_config={
            **shape["text"],
            "vocab_size": 151936,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "rope_parameters": rope,
        },
        vision_config={
            **shape["vision"],
            "num_heads": 16,
            "out_hidden_size": shape["text"]["hidden_size"],
            "deepstack_visual_indexes": shape["deepstack"],
        },
        tie_word_embeddings=size == "4b",
        **tiny_vlm.signs_of_qwen(words),
    )
    torch.set_default_dtype(torch.bfloat16)
    hf.Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    words.save_pretrained(folder)
    tiny_vlm.qwen_pictures(16).save_pretrained(folder)
    return folder


def episode(steps: int, *, side: int, clip: int) -> list[Query]:
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (steps, side, side, 3), np.uint8)
    frames = [Frame.of(image) for image in images]
    return [
        Query(
            task=TASK,
            newest=(frame,),
            history=looked_back([(one,) for one in frames[:step]], limit=clip - 1),
            step=step,
        )
        for step, frame in enumerate(frames)
    ]


def generated(model: Any, queries: list[Query]) -> None:
    """One generation per query, every picture seen anew."""
    for query in queries:
        model.cache._store.clear()
        newest, _, history = model._features([query])
        case = model._case(query, newest[0], (), history[0])
        filling = {"clip": case.clip, "instruction": [query.task.text]}
        passages = model.write([filling])
        model.backbone.read_tokens += len(passages[0])
        model.backbone.generate(passages, tokens=ANSWER_TOKENS)


def one_by_one(*, anew: bool) -> Callable[[Any, list[Query]], None]:
    def run(model: Any, queries: list[Query]) -> None:
        for query in queries:
            if anew:
                model.cache._store.clear()
            model.score([query])

    return run


def batched(model: RewardModel, queries: list[Query]) -> None:
    for start in range(0, len(queries), BATCH):
        model.score(queries[start : start + BATCH])


WAYS: dict[str, tuple[bool, Callable[[Any, list[Query]], None]]] = {
    "generation per query": (False, generated),
    "one prefill": (False, one_by_one(anew=True)),
    "+ pictures seen once": (False, one_by_one(anew=False)),
    "+ prefixes read once": (True, one_by_one(anew=False)),
    "+ batches": (True, batched),
}
"""Name → whether prefixes are shared, and how the episode is asked."""


def clock(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measure(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, (reuse, run) in WAYS.items():
        start = clock(options.device)
        model: Any = load_model(
            f"roboreward={folder}",
            device=options.device,
            reuse=reuse,
            clip=options.clip,
            batch=BATCH,
        )
        load_s = clock(options.device) - start
        run(model, episode(2, side=options.side, clip=options.clip)[:2])  # lazy initialisation
        model.backbone.read_tokens = 0
        model._values.clear()
        model.backbone.prefixes.clear()
        queries = episode(options.steps, side=options.side, clip=options.clip)
        start = clock(options.device)
        run(model, queries)
        seconds = clock(options.device) - start
        tokens = model.backbone.read_tokens
        work = 2 * model.backbone.parameters * tokens / seconds / 1e12
        rows.append(
            {
                "way": name,
                "queries_per_s": options.steps / seconds,
                "ms_per_query": 1e3 * seconds / options.steps,
                "tokens": tokens,
                "times": rows[0]["ms_per_query"] * options.steps / 1e3 / seconds if rows else 1.0,
                "tflops": work,
                "share_of_peak": work / options.peak_tflops if options.peak_tflops else None,
                "load_s": load_s,
                "weights": model.backbone.parameters,
            }
        )
        model.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["tiny", *SHAPES], default="tiny")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--clip", type=int, default=8)
    parser.add_argument("--side", type=int, default=0, help="of a frame, pixels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="of the GPU, in bfloat16")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.side = options.side or (128 if options.size == "tiny" else 224)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if options.size == "tiny":
            tiny_vlm.build("qwen3_vl", folder)
        else:
            build_full(options.size, folder)
        rows = measure(folder, options)
    gpu = options.device != "cpu"
    machine = torch.cuda.get_device_name() if gpu else f"{platform.machine()}, one thread"
    if options.json:
        print(json.dumps({"size": options.size, "machine": machine, "rows": rows}))
        return
    print(f"{options.size}, {rows[0]['weights'] / 1e6:.1f} M random weights · {machine}")
    print("| way | queries/s | ms a query | tokens | times |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row['way']} | {row['queries_per_s']:.1f} | {row['ms_per_query']:.2f} | "
            f"{row['tokens']:,} | {row['times']:.1f} |"
        )


if __name__ == "__main__":
    main()
