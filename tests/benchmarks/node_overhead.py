"""What the reward node costs over calling the same model in this process, side by side in one run.

    python tests/benchmarks/node_overhead.py --model device-like --seconds 5 --json

Latency: clients ask at a fixed rate (30 Hz), each step a new frame and the one before as reference;
the same is done in one process, with threads that share the model under a lock. Throughput: clients
keep 16 questions open; the model in this process is called with full batches. Clients and node are
processes of their own. ``device-like`` is the pixel oracle with a cost of a + c·b that leaves the
CPU idle; ``free`` is the oracle without any cost; every other name goes to ``load_model``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
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
    start = time.perf_counter() + (episode._env % 8) / 8 / rate_hz
    for number in range(int(seconds * rate_hz)):
        while (left := start + number / rate_hz - time.perf_counter()) > 0:
            time.sleep(left)
        begin = time.perf_counter()
        ask(episode.query())
        waits.append(time.perf_counter() - begin)
    return waits


def in_process_latency(
    model: RewardModel, *, clients: int, args: argparse.Namespace
) -> list[float]:
    lock = threading.Lock()
    waits: list[float] = []

    def ask(query: Query) -> None:
        with lock:
            model.answer([query])

    def run(env: int) -> None:
        episode = Episode(env=env, size=args.size)
        ask(episode.query())
        waits.extend(paced(episode, ask, seconds=args.seconds, rate_hz=args.rate_hz))

    threads = [threading.Thread(target=run, args=(env,)) for env in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
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
    from robo_reward.nodes.serve import SWITCH_S, RewardNode

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    sys.setswitchinterval(SWITCH_S)
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
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


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
                base = percentiles(in_process_latency(model, clients=count, args=args))
                waits, rate, wrong = with_clients(count, args)
                served = percentiles(waits)
                tag = "" if count == 1 else f"_{count}_clients"
                result[f"in_process{tag}_p50_ms"], result[f"in_process{tag}_p99_ms"] = base
                result[f"node{tag}_p50_ms"], result[f"node{tag}_p99_ms"] = served
                result[f"overhead{tag}_p50_ms"] = round(served[0] - base[0], 3)
                result[f"overhead{tag}_p99_ms"] = round(served[1] - base[1], 3)
                batched = in_process_throughput(model, args)
                name = "1_client" if count == 1 else f"{count}_clients"
                result[f"batched_rows_hz_{name}"] = round(batched, 1)
                result[f"node_rows_hz_{name}"] = round(rate, 1)
                result[f"throughput_ratio_{name}"] = round(rate / batched, 3)
                result[f"wrong_{name}"] = wrong
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
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--rate-hz", type=float, default=30.0, help="steps a second of a client")
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
