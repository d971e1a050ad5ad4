"""``robo-reward up``: order, restarts, exit codes, all errors at once, one Ctrl-C."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robo_reward.errors import ConfigError
from robo_reward.nodes.up import NodeSpec, Supervisor, load_plan
from robo_reward.transport.stream import FrameSubscriber

WAIT_S = 40.0


def until(true: Callable[[], bool], *, timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


def program(name: str, text: str, **more: Any) -> NodeSpec:
    return NodeSpec(name=name, kind="command", command=(sys.executable, "-c", text), **more)


def supervise(plan: list[NodeSpec]) -> tuple[Supervisor, threading.Thread, list[int], io.StringIO]:
    stream = io.StringIO()
    supervisor = Supervisor(plan, stream=stream)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(supervisor.run()))
    thread.start()
    return supervisor, thread, codes, stream


def test_lines_carry_the_name_of_their_node() -> None:
    plan = [program("one", "print('hello')"), program("second", "print('world')")]
    _, thread, codes, stream = supervise(plan)
    thread.join(timeout=WAIT_S)
    assert codes == [0]
    until(lambda: "second | world" in stream.getvalue())
    assert "one    | hello" in stream.getvalue()


def test_a_node_that_crashes_is_started_again(tmp_path: Path) -> None:
    count = tmp_path / "count"
    crash = f"""
import sys
with open({str(count)!r}, "a") as file: file.write("x")
sys.exit(0 if open({str(count)!r}).read() == "xxx" else 7)
"""
    _, thread, codes, stream = supervise([program("shaky", crash)])
    thread.join(timeout=WAIT_S)
    assert codes == [0]
    assert count.read_text() == "xxx"
    assert stream.getvalue().count("starting again") == 2


def test_a_node_that_keeps_crashing_ends_all_with_its_code(tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    calm = f"""
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (open({str(stopped)!r}, "w").close(), sys.exit(0)))
print("ready", flush=True)
time.sleep(60)
"""
    plan = [
        program("calm", calm),
        program("shaky", "import time, sys; time.sleep(1); sys.exit(9)", max_restarts=1),
    ]
    _, thread, codes, stream = supervise(plan)
    thread.join(timeout=WAIT_S)
    assert codes == [9]
    assert "shaky | gave up" in stream.getvalue()
    assert stopped.exists()


@pytest.mark.parametrize("code", [2, 3])
def test_what_another_try_cannot_change_is_not_tried_again(code: int) -> None:
    _, thread, codes, stream = supervise([program("wrong", f"import sys; sys.exit({code})")])
    thread.join(timeout=WAIT_S)
    assert codes == [code]
    assert "starting again" not in stream.getvalue()


def test_a_signal_death_is_a_shell_s_exit_code() -> None:
    text = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    _, thread, codes, _ = supervise([program("shot", text, restart="never")])
    thread.join(timeout=WAIT_S)
    assert codes == [128 + signal.SIGKILL]


def test_a_program_that_is_not_there_is_said_so() -> None:
    _, thread, codes, stream = supervise(
        [NodeSpec(name="ghost", kind="command", command=("/nowhere/ghost",))]
    )
    thread.join(timeout=WAIT_S)
    assert codes == [2]
    assert "does not start" in stream.getvalue()


def test_nodes_stop_in_the_reverse_order(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    text = """
import signal, sys, time
def stop(*_):
    with open({diary!r}, "a") as file: file.write("{name} ")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
    names = ("camera", "reward", "learner")
    plan = [program(name, text.format(diary=str(diary), name=name)) for name in names]
    supervisor, thread, codes, stream = supervise(plan)
    until(lambda: stream.getvalue().count("ready") == 3)
    supervisor.stop()
    thread.join(timeout=WAIT_S)
    assert codes == [0]
    assert diary.read_text().split() == ["learner", "reward", "camera"]


def test_a_second_ctrl_c_kills_what_does_not_stop() -> None:
    text = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""
    supervisor, thread, codes, stream = supervise([program("deaf", text)])
    until(lambda: "ready" in stream.getvalue())
    supervisor.stop()
    supervisor.stop()
    thread.join(timeout=WAIT_S)
    assert codes == [0]
    assert "killed" in stream.getvalue()


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_wrong_in_a_file_is_said_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path / "robot.yaml",
        """
colour: red
namespace: lab
nodes:
  front: {run: camera, rate_hz: fast, zoom: 3}
  side: {run: kamera}
  wrist: {run: camera, camera: wrist, restart: sometimes, max_restarts: -1}
  wrist2: {run: camera, camera: eye}
  wrist3: {run: camera, camera: eye}
  recorder: {run: record, rotate_s: 0}
  learner: {run: command}
""",
    )
    with pytest.raises(ConfigError) as caught:
        load_plan(path)
    for part in (
        "colour", "rate_hz", "zoom", "kamera", "did you mean camera", "sometimes", "max_restarts",
        "wrist3 and wrist2 both bind", "rotate_s", "learner: command",
    ):  # fmt: skip
        assert part in str(caught.value)


def test_a_file_without_nodes_is_refused(tmp_path: Path) -> None:
    for text in ("nodes: {}\n", "namespace: lab\n", "- a\n"):
        with pytest.raises(ConfigError):
            load_plan(write(tmp_path / "robot.yaml", text))


def test_namespace_and_remapping_reach_every_node(tmp_path: Path) -> None:
    path = write(
        tmp_path / "robot.yaml",
        """
namespace: lab
remap: ["camera/front/frame:=tcp://127.0.0.1:5611"]
nodes:
  front: {run: camera}
  recorder: {run: record, cameras: [camera/front/frame], out: here}
""",
    )
    for spec in load_plan(path):
        assert spec.parameters["namespace"] == "lab"
        assert spec.parameters["remap"] == ["camera/front/frame:=tcp://127.0.0.1:5611"]
        assert spec.parameters["name"] == spec.name


def test_the_example_of_the_readme_is_right(tmp_path: Path) -> None:
    import robo_reward.nodes

    readme = (Path(robo_reward.nodes.__file__).parent / "README.md").read_text(encoding="utf-8")
    example = readme.partition("```yaml\n")[2].partition("```")[0]
    names = [spec.name for spec in load_plan(write(tmp_path / "robot.yaml", example))]
    assert names == ["front", "reward", "recorder", "learner"]


def test_a_camera_and_a_recorder_come_up_and_one_ctrl_c_ends_both(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("mcap")
    writer = cv2.VideoWriter(
        str(tmp_path / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 30, (32, 24)
    )
    for number in range(20):
        writer.write(np.full((24, 32, 3), 10 * number, np.uint8))
    writer.release()
    path = write(
        tmp_path / "robot.yaml",
        f"""
namespace: lab
nodes:
  front: {{run: camera, source: {tmp_path}/film.avi, loop: true}}
  recorder: {{run: record, cameras: [camera/front/frame], out: {tmp_path}/log}}
""",
    )
    # The path of a local socket has at most 107 characters; pytest's folders can be longer.
    with tempfile.TemporaryDirectory(prefix="rr") as run:
        process = subprocess.Popen(
            [sys.executable, "-m", "robo_reward", "up", str(path)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XDG_RUNTIME_DIR": run},
        )
        try:
            with FrameSubscriber(
                f"ipc://{run}/robo-reward/lab.camera.front.frame", name="t"
            ) as eye:
                assert eye.receive(timeout_s=WAIT_S) is not None
            until(lambda: any((tmp_path / "log").glob("*.part")))
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "front    | " in err
    assert "recorder | " in err
    assert len(list((tmp_path / "log").glob("*.mcap"))) == 1
