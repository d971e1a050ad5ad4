"""The camera node with a video file, an MJPEG stream, a scene and a followed scene."""

from __future__ import annotations

import http.server
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robo_reward.client.scene import ScenePublisher
from robo_reward.errors import ConfigError, DatasetError, DeviceError, RoboRewardError
from robo_reward.nodes.camera import CameraNode, CameraParameters
from robo_reward.nodes.diagnostics import Level
from robo_reward.nodes.monitor import COLUMNS, MonitorNode, MonitorParameters
from robo_reward.protocol.stream import Tag
from robo_reward.transport.stream import Arrival, FrameSubscriber

from .small_scene import SCENE, SmallScene

cv2 = pytest.importorskip("cv2")

WAIT_S = 15.0
ANY = "tcp://127.0.0.1:*"


def until(true: Callable[[], bool], *, timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)


@contextmanager
def running(parameters: CameraParameters) -> Iterator[CameraNode]:
    """A camera node in a thread of its own."""
    node = CameraNode(parameters)
    failed: list[BaseException] = []

    def live() -> None:
        try:
            node.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        until(lambda: node.state.value == "active" or bool(failed))
        if failed:
            raise failed[0]
        yield node
    finally:
        node.stop()
        thread.join(timeout=10)
        assert not thread.is_alive()


def address(node: CameraNode) -> str:
    assert node.publisher is not None
    return node.publisher.address


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty frames of 64 x 48 whose brightness counts up by ten."""
    path: Path = tmp_path_factory.mktemp("video") / "count.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for number in range(20):
        writer.write(np.full((48, 64, 3), 10 * number, np.uint8))
    writer.release()
    return path


def test_a_file_is_shown_once_and_whole(video: Path) -> None:
    seen: list[Arrival] = []
    parameters = CameraParameters(source=str(video), bind=ANY, rate_hz=100, camera="film")
    with (
        running(parameters) as node,
        FrameSubscriber(address(node), name="t", mode="lossless", on_frame=seen.append),
    ):
        until(lambda: node.state.value == "finalized")
    numbers = [arrival.frame.header.sequence for arrival in seen]
    assert numbers == list(range(numbers[0], 20))
    for arrival in seen:
        header = arrival.frame.header
        assert (header.camera, header.shape, header.encoding) == ("film", (48, 64, 3), "jpeg")
        assert abs(int(arrival.frame.image.mean()) - 10 * header.sequence) <= 4
        assert arrival.tag is None


def test_a_looped_file_is_resized_and_sent_raw(video: Path) -> None:
    parameters = CameraParameters(
        source=str(video), bind=ANY, rate_hz=200, loop=True, width=32, height=24, jpeg_quality=0
    )
    with running(parameters) as node, FrameSubscriber(address(node), name="t") as subscriber:
        until(lambda: node.frames > 45)
        arrival = subscriber.receive(timeout_s=WAIT_S)
        assert node.diagnostics()[0].level in (Level.OK, Level.WARN)
        assert "Hz" in node.status_line()
    assert arrival is not None
    assert arrival.frame.header.encoding == "rgb8"
    assert arrival.frame.image.shape == (24, 32, 3)
    assert 0 <= arrival.age_s() < WAIT_S


def test_a_scene_steps_by_itself() -> None:
    parameters = CameraParameters(scene=SCENE, bind=ANY, rate_hz=100, jpeg_quality=0)
    with running(parameters) as node, FrameSubscriber(address(node), name="t") as subscriber:
        counts = []
        for _ in range(5):
            arrival = subscriber.receive(timeout_s=WAIT_S)
            assert arrival is not None
            counts.append(int(arrival.frame.image[0, 0, 0]))
    assert counts == sorted(set(counts))


def test_mujoco_scenes_are_rendered() -> None:
    pytest.importorskip("mujoco")
    parameters = CameraParameters(
        scene="Reacher-v5", scene_options="{width: 32, height: 32}", bind=ANY, rate_hz=20
    )
    with running(parameters) as node, FrameSubscriber(address(node), name="t") as subscriber:
        arrival = subscriber.receive(timeout_s=WAIT_S)
    assert arrival is not None
    assert arrival.frame.image.shape == (32, 32, 3)
    assert arrival.frame.image.std() > 0


def follower(publisher: ScenePublisher) -> CameraParameters:
    return CameraParameters(scene=SCENE, follow=publisher.address, bind=ANY, jpeg_quality=0)


def test_a_followed_scene_shows_every_state_once_with_its_stamps() -> None:
    seen: list[Arrival] = []
    stamps: dict[Tag, int] = {}
    scenes = [SmallScene(), SmallScene()]
    with ScenePublisher(ANY, scene=SCENE) as publisher, running(follower(publisher)) as node:
        assert publisher.wait_for_renderer(timeout_s=WAIT_S)
        assert node.publisher is not None
        with FrameSubscriber(address(node), name="t", on_frame=seen.append):
            assert node.publisher.wait_for_consumers(1, timeout_s=WAIT_S)
            for env, scene in enumerate(scenes):
                scene.reset(seed=env)
            for step in range(100):
                for env, scene in enumerate(scenes):
                    tag = Tag(env=env, episode=4, step=step)
                    stamps[tag] = publisher.publish(scene, env=env, episode=4, step=step)
                    scene.step(0)
            until(lambda: len(seen) >= 200)
    assert [arrival.tag for arrival in seen] == list(stamps)
    for arrival in seen:
        assert arrival.tag is not None
        assert arrival.frame.header.wall_ns == stamps[arrival.tag]
        red, green, _ = arrival.frame.image[0, 0]
        assert (red, green) == (arrival.tag.step, scenes[arrival.tag.env].colour)


def test_a_renderer_that_comes_late_is_given_scene_and_last_state() -> None:
    scene = SmallScene()
    scene.reset(seed=1)
    with ScenePublisher(ANY, scene=SCENE) as publisher:
        for step in range(8):
            publisher.publish(scene, step=step)
            scene.step(0)
        with (
            running(follower(publisher)) as node,
            FrameSubscriber(address(node), name="t") as subscriber,
        ):
            found = subscriber.receive(timeout_s=WAIT_S)
            while found is not None and found.tag != Tag(step=7):
                found = subscriber.receive(timeout_s=WAIT_S)
    assert found is not None
    assert tuple(found.frame.image[0, 0][:2]) == (7, scene.colour)


def test_a_simulator_waits_for_a_slow_renderer_and_loses_nothing() -> None:
    got: list[int] = []

    def slowly(arrival: Arrival) -> None:
        assert arrival.tag is not None
        got.append(arrival.tag.step)
        time.sleep(0.002)

    with (
        ScenePublisher(ANY, scene=SCENE) as publisher,
        running(follower(publisher)) as node,
        FrameSubscriber(address(node), name="t", on_frame=slowly, window=2),
    ):
        assert publisher.wait_for_renderer(timeout_s=WAIT_S)
        assert node.publisher is not None
        assert node.publisher.wait_for_consumers(1, timeout_s=WAIT_S)
        publisher.reset(b"\1", np.zeros(1))
        for step in range(1, 600):
            publisher.step(np.array([step]), step=step)
        until(lambda: len(got) >= 600)
    assert got == list(range(600))


def test_states_of_another_scene_are_refused() -> None:
    with (
        ScenePublisher(ANY, scene="other/Scene-v0") as publisher,
        running(follower(publisher)) as node,
    ):
        publisher.reset(b"\1", np.zeros(1))
        until(lambda: getattr(node._capture, "refused", 0) == 1)
        assert node.frames == 0
    with ScenePublisher(ANY, scene=SCENE) as publisher, running(follower(publisher)) as node:
        publisher.reset(b"", np.zeros(1))
        until(lambda: getattr(node._capture, "refused", 0) == 1)
        publisher.reset(b"\2", np.zeros(3))
        until(lambda: getattr(node._capture, "refused", 0) == 2)
        publisher.reset(b"\2", np.zeros(1))
        until(lambda: node.frames == 1)


def test_the_monitor_shows_what_a_consumer_sees() -> None:
    parameters = CameraParameters(scene=SCENE, bind=ANY, rate_hz=100, jpeg_quality=0)
    with running(parameters) as node:
        nowhere = "tcp://127.0.0.1:9"
        monitor = MonitorNode(MonitorParameters(cameras=(address(node), nowhere)))
        thread = threading.Thread(target=monitor.run)
        thread.start()
        until(lambda: len(monitor.rows()) == 2 and monitor.rows()[0]["size"] == "16x16")
        rows = monitor.rows()
        monitor.stop()
        thread.join(timeout=10)
    assert set(rows[0]) == set(COLUMNS)
    assert (rows[0]["stream"], rows[0]["encoding"]) == ("/camera/front/frame", "rgb8")
    assert rows[1]["state"] == "nobody answers"


class Mjpeg(http.server.BaseHTTPRequestHandler):
    """Gives a stream until the server says that the camera was unplugged."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        picture = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
        server: Any = self.server
        while not server.unplugged.wait(0.02):
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + picture + b"\r\n")
            except OSError:
                return

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def mjpeg(port: int = 0) -> Iterator[Any]:
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", port), Mjpeg)
    server.unplugged = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.unplugged.set()
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_network_camera_is_stale_while_it_is_gone_and_opened_again() -> None:
    with mjpeg() as server:
        port = server.server_address[1]
        url = f"http://127.0.0.1:{port}/stream.mjpg"
        with (
            running(CameraParameters(source=url, bind=ANY, rate_hz=0)) as node,
            FrameSubscriber(address(node), name="t") as subscriber,
        ):
            assert subscriber.receive(timeout_s=WAIT_S) is not None
            server.unplugged.set()
            server.shutdown()
            server.server_close()
            until(lambda: "STALE" in node.status_line())
            assert node.diagnostics()[0].level is Level.STALE
            before = node.frames
            with mjpeg(port):
                until(lambda: node.frames > before)
                assert "STALE" not in node.status_line()
                arrival = subscriber.receive(timeout_s=WAIT_S)
    assert arrival is not None
    assert arrival.frame.header.sequence >= before


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"source": "77"}, DeviceError, "no camera /dev/video77"),
        ({"source": "nowhere.mp4"}, DatasetError, "no video file"),
        ({"source": "http://user:secret@127.0.0.1:9/x"}, DeviceError, "no video at http://127"),
        ({"scene": "Nowhere-v0"}, ConfigError, "Nowhere"),
        ({"scene": SCENE, "scene_options": "{colour: 1}"}, ConfigError, "colour"),
    ],
)
def test_what_is_not_there_is_one_line(
    changes: dict[str, Any], kind: type[RoboRewardError], text: str
) -> None:
    node = CameraNode(CameraParameters(bind=ANY, **changes))
    with pytest.raises(kind, match=text) as caught:
        node.run()
    assert "secret" not in str(caught.value)
    assert node.state.value == "finalized"


def test_a_file_that_is_no_video_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"not a film")
    with pytest.raises(DatasetError):
        CameraNode(CameraParameters(source=str(path), bind=ANY)).run()


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        CameraParameters(
            camera="a b", rate_hz=-1, jpeg_quality=101, width=3, follow="scene", scene_options="[1]"
        )
    for part in ("a b", "rate_hz", "jpeg_quality", "3x0", "follow", "scene_options"):
        assert part in str(caught.value)


def test_the_process_ends_cleanly_and_says_its_exit_code(video: Path, tmp_path: Path) -> None:
    config = tmp_path / "front.yaml"
    config.write_text(f"source: {video}\nloop: true\nbind: ipc://{tmp_path}/front\n")
    command = [sys.executable, "-m", "robo_reward.nodes.camera"]
    process = subprocess.Popen([*command, "--config", str(config)], stderr=subprocess.DEVNULL)
    with FrameSubscriber(f"ipc://{tmp_path}/front", name="t") as subscriber:
        assert subscriber.receive(timeout_s=WAIT_S) is not None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    absent = subprocess.run(
        [*command, "--source", "77"], capture_output=True, text=True, timeout=60, check=False
    )
    assert absent.returncode == 4
    assert absent.stderr.splitlines()[-1].startswith("error: no camera /dev/video77")
