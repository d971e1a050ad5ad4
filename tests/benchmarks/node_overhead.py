"""What the reward node costs over calling the same model in this process, side by side in one run.

    python tests/benchmarks/node_overhead.py --model device-like --seconds 5 --json

Latency: clients ask at a fixed rate (30 Hz; 0 for back to back), each step a new frame and the one
before as reference. The base is the same model in this process: called directly by one client; for
eight, threads whose questions it takes in batches, all that wait at once, as the node does.
Throughput: clients keep 16 questions open; the base is the model alone, called with full batches.
Clients and node are processes of their own; base and node take turns, ``--rounds`` times, and
latencies are those of all rounds, rates the median one. ``device-like`` is the pixel oracle with a
cost of a + c·b that leaves the CPU idle; ``free`` is the oracle without any cost; every other name
goes to ``load_model``. At equal cores: the model alone may use them all, the node leaves one to its
sockets as ``robo-reward serve`` does, and the clients run on the same ones. ``OMP_NUM_THREADS``
sets both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import IO, Any

import numpy as np

from robo_reward.client import connect
from robo_reward.client.source import Pending
from robo_reward.frames import Frame
from robo_reward.models.base import RewardModel
from robo_reward.query import Query
from robo_reward.task import Task

TASK = Task(instruction="put the red cube on the blue pad")
DEVICE: dict[str, Any] = {"fixed_s": 0.008, "each_s": 0.001}
OPEN = 16
BATCH = 32


def make_model(name: str) -> RewardModel:
    from robo_reward.models.registry import load_model

    if name in ("device-like", "free"):
        cost: dict[str, Any] = DEVICE if name == "device-like" else {}
        return load_model("oracle-pixels", device="cpu", **cost)
    return load_model(name, device="cpu")


class Episode:
    """Queries of one environment: every step a frame never seen before, and the last one."""

    def __init__(self, *, env: int, size: int) -> None:
        self._image = np.empty((size, size, 3), np.uint8)
        # Smooth, as camera images are: noise would make JPEG look worse than it is.
        self._image[:] = np.linspace(0, 255, size, dtype=np.uint8)[:, None, None]
        # No two episodes share a frame, or the model's cache would do the work of a later one.
        self._image[2, :4] = np.frombuffer(os.urandom(12), np.uint8).reshape(4, 3)
        self._env = env
        self._step = 0
        self._last: Frame | None = None

    def query(self) -> Query:
        self._step += 1
        self._image[1, 0] = (self._step & 255, self._step >> 8 & 255, self._env & 255)
        frame = Frame.of(self._image, sequence=self._step)
        reference = () if self._last is None else (self._last,)
        self._last = frame
        return Query(
            task=TASK, newest=(frame,), reference=reference, env=self._env, step=self._step
        )


def paced(episode: Episode, ask: Any, *, seconds: float, rate_hz: float) -> list[float]:
    """Ask at a fixed rate and return what each step waited, seconds."""
    waits = []
    pause = 1 / rate_hz if rate_hz else 0.0
    start = time.perf_counter() + (episode._env % 8) / 8 * pause
    number = 0
    while time.perf_counter() < start + seconds:
        while (left := start + number * pause - time.perf_counter()) > 0:
            time.sleep(left)
        number += 1
        query = episode.query()
        begin = time.perf_counter()
        ask(query)
        waits.append(time.perf_counter() - begin)
    return waits


class Batched:
    """The model behind one thread of this process that takes all that waits: what to compare with.

    Args:
        model: Called by that thread only.
    """

    def __init__(self, model: RewardModel) -> None:
        self._model = model
        self._asked: queue.SimpleQueue[tuple[Query, Future[None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def ask(self, query: Query) -> None:
        answered: Future[None] = Future()
        self._asked.put((query, answered))
        answered.result(timeout=60.0)

    def close(self) -> None:
        self._asked.put(None)
        self._thread.join(60.0)

    def _run(self) -> None:
        while (first := self._asked.get()) is not None:
            batch = [first]
            while len(batch) < BATCH and not self._asked.empty():
                if (more := self._asked.get()) is None:
                    return
                batch.append(more)
            self._model.answer([query for query, _ in batch])
            for _, answered in batch:
                answered.set_result(None)


def in_process_latency(
    model: RewardModel, *, clients: int, args: argparse.Namespace
) -> list[float]:
    if clients == 1:
        episode = Episode(env=0, size=args.size)
        model.answer([episode.query()])
        return paced(
            episode,
            lambda query: model.answer([query]),
            seconds=args.seconds,
            rate_hz=args.rate_hz,
        )
    waits: list[float] = []
    batched = Batched(model)

    def run(env: int) -> None:
        episode = Episode(env=env, size=args.size)
        batched.ask(episode.query())
        waits.extend(paced(episode, batched.ask, seconds=args.seconds, rate_hz=args.rate_hz))

    threads = [threading.Thread(target=run, args=(env,)) for env in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batched.close()
    return waits


def in_process_throughput(model: RewardModel, args: argparse.Namespace) -> float:
    """Rows a second of the model alone, in full batches; making the frames is not counted."""
    episodes = [Episode(env=env, size=args.size) for env in range(8)]
    model.answer([episode.query() for episode in episodes])
    rows, spent = 0, 0.0
    while spent < args.seconds:
        queries = [episodes[index % 8].query() for index in range(BATCH)]
        start = time.perf_counter()
        model.answer(queries)
        spent += time.perf_counter() - start
        rows += BATCH
    return rows / spent


# -- child processes -------------------------------------------------------------------------------


def child_node(args: argparse.Namespace) -> None:
    from robo_reward.nodes.serve import SWITCH_S, RewardNode, limit_threads

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    sys.setswitchinterval(SWITCH_S)
    limit_threads()
    with RewardNode(lambda: make_model(args.model), address=args.address, max_batch=BATCH):
        while not stop.wait(0.5):
            pass


def child_client(args: argparse.Namespace) -> None:
    with connect(
        args.address, deadline_s=10.0, jpeg_quality=args.jpeg_quality, connect_timeout_s=60.0
    ) as source:
        source.info()
        episode = Episode(env=args.env, size=args.size)
        wrong = 0

        def ask(query: Query) -> None:
            nonlocal wrong
            (score,) = source.submit([query]).result(timeout_s=20.0)
            wrong += not (score.ok and score.identity.step == query.step)

        ask(episode.query())
        print("ready", flush=True)
        sys.stdin.readline()
        waits = paced(episode, ask, seconds=args.seconds, rate_hz=args.rate_hz)
        print(json.dumps({"waits": waits, "wrong": wrong}), flush=True)
        sys.stdin.readline()
        open_asks: deque[Pending] = deque()
        rows = 0
        start = time.perf_counter()
        while time.perf_counter() - start < args.seconds:
            while len(open_asks) < OPEN:
                open_asks.append(source.submit([episode.query()]))
            (score,) = open_asks.popleft().result(timeout_s=20.0)
            rows += score.ok
        rate = rows / (time.perf_counter() - start)
        while open_asks:
            open_asks.popleft().result(timeout_s=20.0)
        print(json.dumps({"rows_hz": rate}), flush=True)
        sys.stdin.readline()


def spawn(role: str, args: argparse.Namespace, **more: object) -> subprocess.Popen[str]:
    options = {**vars(args), **more, "child": role}
    line = [sys.executable, __file__]
    for name, value in options.items():
        if name != "json" and value is not None:
            line += [f"--{name.replace('_', '-')}", str(value)]
    return subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line_of(child: subprocess.Popen[str]) -> str:
    stream: IO[str] | None = child.stdout
    return stream.readline() if stream is not None else ""


def tell(children: list[subprocess.Popen[str]]) -> None:
    for child in children:
        if child.stdin is not None:
            child.stdin.write("go\n")
            child.stdin.flush()


def with_clients(count: int, args: argparse.Namespace) -> tuple[list[float], float, int]:
    """Return waits of all steps, rows a second of all clients, and how many scores were wrong."""
    clients = [spawn("client", args, env=env) for env in range(count)]
    try:
        for client in clients:
            if line_of(client).strip() != "ready":
                raise RuntimeError("a client did not start")
        tell(clients)
        found = [json.loads(line_of(client)) for client in clients]
        tell(clients)
        rates = [json.loads(line_of(client))["rows_hz"] for client in clients]
        tell(clients)
    finally:
        for client in clients:
            client.wait(timeout=30)
            for stream in (client.stdin, client.stdout):
                if stream is not None:
                    stream.close()
    waits = [wait for one in found for wait in one["waits"]]
    return waits, sum(rates), sum(one["wrong"] for one in found)


def percentiles(waits: list[float]) -> tuple[float, float]:
    p50, p99 = np.percentile(waits, [50, 99]) * 1e3
    return round(float(p50), 3), round(float(p99), 3)


def compare(model: RewardModel, count: int, args: argparse.Namespace) -> dict[str, Any]:
    """Measure base and node in turns for so many clients."""
    base_waits: list[float] = []
    node_waits: list[float] = []
    base_rates, node_rates, wrong = [], [], 0
    for _ in range(args.rounds):
        base_waits += in_process_latency(model, clients=count, args=args)
        waits, rate, bad = with_clients(count, args)
        node_waits += waits
        node_rates.append(rate)
        base_rates.append(in_process_throughput(model, args))
        wrong += bad
    base, served = percentiles(base_waits), percentiles(node_waits)
    ratios = [rate / alone for rate, alone in zip(node_rates, base_rates, strict=True)]
    tag = "" if count == 1 else f"_{count}_clients"
    name = "1_client" if count == 1 else f"{count}_clients"
    return {
        f"in_process{tag}_p50_ms": base[0],
        f"in_process{tag}_p99_ms": base[1],
        f"node{tag}_p50_ms": served[0],
        f"node{tag}_p99_ms": served[1],
        f"overhead{tag}_p50_ms": round(served[0] - base[0], 3),
        f"overhead{tag}_p99_ms": round(served[1] - base[1], 3),
        f"batched_rows_hz_{name}": round(statistics.median(base_rates), 1),
        f"node_rows_hz_{name}": round(statistics.median(node_rates), 1),
        f"throughput_ratio_{name}": round(statistics.median(ratios), 3),
        f"wrong_{name}": wrong,
    }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {
        "model": args.model,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_before": round(os.getloadavg()[0], 2),
        "frame": f"{args.size}x{args.size} "
        + ("raw" if args.jpeg_quality is None else f"jpeg {args.jpeg_quality}"),
        "rate_hz": args.rate_hz,
    }
    model = make_model(args.model)
    with tempfile.TemporaryDirectory(prefix="rr") as folder:
        args.address = args.address or f"ipc://{folder}/node"
        node = spawn("node", args)
        try:
            for count in (1, 8):
                result.update(compare(model, count, args))
        finally:
            node.terminate()
            node.wait(timeout=30)
            for stream in (node.stdin, node.stdout):
                if stream is not None:
                    stream.close()
    model.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="device-like", help="device-like, free, compact, …")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="how often base and node take turns")
    parser.add_argument(
        "--rate-hz", type=float, default=30.0, help="steps a second of a client; 0: no pause"
    )
    parser.add_argument("--size", type=int, default=224, help="side of a frame, pixels")
    parser.add_argument("--jpeg-quality", type=int, default=None, help="1 to 100; raw if not given")
    parser.add_argument("--address", default=None, help="of the node; a temporary ipc path if not")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--child", choices=("node", "client"), help=argparse.SUPPRESS)
    parser.add_argument("--env", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child == "node":
        child_node(args)
    elif args.child == "client":
        child_client(args)
    else:
        result = measure(args)
        if not args.json:
            for name, value in result.items():
                print(f"{name:28} {value}")
        else:
            print(json.dumps(result))


if __name__ == "__main__":
    main()
