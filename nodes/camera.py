"""The camera node: captures, resizes, compresses, stamps, and streams to whoever connects.

    python -m robo_reward.nodes.camera --camera front --source 0 --bind tcp://127.0.0.1:5611

It binds ``camera/<name>/frame``; consumers connect and are given the newest frame when they ask.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from robo_reward.errors import ConfigError, DeviceError, require
from robo_reward.frames import Frame, Image
from robo_reward.transport.stream import FramePublisher

from .capture.base import Capture, Shot
from .diagnostics import Diagnostic, FrequencyCheck, Level, StampCheck
from .measurements import Histogram, Measurement
from .names import check_name
from .node import Node, node_main
from .parameters import NodeParameters

READ_S = 0.1
FIRST_BACKOFF_S = 0.5
LAST_BACKOFF_S = 5.0
ROOM_S = 0.2
STALE_AFTER_S = 2.0


@dataclass(frozen=True, kw_only=True)
class CameraParameters(NodeParameters):
    """Settings of a camera node."""

    camera: str = "front"
    """Name of the camera; the topic is camera/NAME/frame."""
    source: str = "0"
    """Device number or path, RTSP or HTTP address, or video file. Not used with a scene."""
    scene: str = ""
    """Gymnasium id of a MuJoCo scene to show instead of a source."""
    follow: str = ""
    """Topic or address of a simulator whose states of that scene are shown; none is skipped."""
    scene_options: str = ""
    """Arguments of the scene as a YAML mapping, for example '{width: 224, height: 224}'."""
    action: Literal["random", "zero"] = "random"
    """What a scene that is not followed does at each step."""
    seed: int = 0
    """Seed of a scene that is not followed."""
    bind: str = ""
    """Address to bind; a local socket named after the topic when not given."""
    rate_hz: float = 30.0
    """Frames a second; 0 for the source's own rate."""
    width: int = 0
    """Width of the frames sent, pixels; 0 for the source's own."""
    height: int = 0
    """Height of the frames sent, pixels; 0 for the source's own."""
    jpeg_quality: int = 90
    """1 to 100; 0 sends raw pixels."""
    loop: bool = False
    """Start a video file again at its end."""

    def problems(self) -> list[str]:
        """Return everything that is wrong."""
        found = super().problems()
        if self.rate_hz < 0:
            found.append(f"rate_hz must be >= 0, got {self.rate_hz:g}")
        if not 0 <= self.jpeg_quality <= 100:
            found.append(f"jpeg_quality must be in [0, 100], got {self.jpeg_quality}")
        if self.width < 0 or self.height < 0 or bool(self.width) != bool(self.height):
            found.append(f"width and height must be given together, got {self.width}x{self.height}")
        if self.follow and not self.scene:
            found.append("follow needs scene: the Gymnasium id that the simulator runs")
        for check in (
            lambda: check_name(self.camera, what="camera"),
            lambda: scene_options(self.scene_options),
        ):
            try:
                check()
            except ConfigError as error:
                found.append(str(error))
        return found


class CameraNode(Node):
    """Captures frames and streams them; opens its source again when that is lost.

    Args:
        parameters: Frozen settings.
    """

    kind = "camera"

    def __init__(self, parameters: CameraParameters) -> None:
        super().__init__(parameters)
        self.parameters = parameters
        self.frames = 0
        self.publisher: FramePublisher | None = None
        self._capture: Capture | None = None
        self._backoff_s = FIRST_BACKOFF_S
        self._retry_s = 0.0
        self._lost = ""
        self._waiting: Shot | None = None
        lossless = bool(parameters.follow)
        self._rate = FrequencyCheck(
            f"camera/{parameters.camera}: frequency",
            min_hz=0.0 if lossless else parameters.rate_hz,
        )
        self._stamps = StampCheck(
            f"camera/{parameters.camera}: stamps",
            max_age_s=0.5,
            stale_after_s=float("inf") if lossless else STALE_AFTER_S,
        )

    def on_configure(self) -> None:
        """Open the source, then bind: nobody shall connect to a camera that is not there."""
        self._capture = open_capture(self)
        topic = self.topic(f"camera/{self.parameters.camera}/frame")
        self.publisher = FramePublisher(
            self.address(self.parameters.bind or topic),
            camera=self.parameters.camera,
            topic=topic,
            lossless=self._capture.lossless,
            keys=self.keys,
            insecure_no_auth=self._insecure_no_auth,
        )
        self.log.info("camera %s binds %s", self.parameters.camera, self.publisher.address)

    def on_step(self) -> None:
        """Take one image and publish it."""
        shot = self._waiting or self._read()
        if shot is None or self.publisher is None:
            return
        self._waiting = None
        if shot.tag is not None and not self.publisher.wait_for_room(timeout_s=ROOM_S):
            # Nobody may miss this frame and a consumer is full: hold it, and through the credit
            # that is not given back meanwhile, hold the simulator.
            self._waiting = shot
            return
        self._publish(shot, self.publisher)

    def on_drain(self) -> None:
        """Let consumers that may miss nothing take the rest."""
        if self.publisher is not None:
            self.publisher.drain(timeout_s=3.0)

    def on_cleanup(self) -> None:
        """Free the source and the address."""
        if self._capture is not None:
            self._capture.close()
        if self.publisher is not None:
            self.publisher.close()

    def measurements(self) -> Sequence[Measurement | Histogram]:
        """Return frames, rate, consumers and what they did not ask for."""
        consumers = self.publisher.consumers() if self.publisher is not None else []
        dropped = sum(each.dropped for each in consumers)
        return [
            Measurement.counter("camera_frames", self.frames, "Frames published."),
            Measurement.gauge("camera_rate_hz", self._rate.rate_hz(), "Frames a second."),
            Measurement.gauge("camera_consumers", len(consumers), "Connected consumers."),
            Measurement.gauge(
                "camera_not_asked_for", dropped, "Frames that connected consumers did not ask for."
            ),
        ]

    def status_line(self) -> str:
        """Return rate, consumers and drops."""
        if self._lost:
            return f"{self.name}  STALE  {self._lost}"
        consumers = self.publisher.consumers() if self.publisher is not None else []
        dropped = sum(each.dropped for each in consumers)
        return (
            f"{self.name}  {self._rate.rate_hz():5.1f} Hz  frames {self.frames}  "
            f"consumers {len(consumers)}  not asked for {dropped}"
        )

    def diagnostics(self) -> list[Diagnostic]:
        """Return rate and stamps; STALE while the source is lost."""
        if self._lost:
            name = f"camera/{self.parameters.camera}"
            return [Diagnostic(name=name, level=Level.STALE, message=self._lost)]
        if self.parameters.follow:
            return []  # as slow as the simulator, and silent when it is
        return [self._rate.finding(), self._stamps.finding()]

    def _read(self) -> Shot | None:
        if self._capture is None:
            self._reopen()
            return None
        try:
            shot = self._capture.read(timeout_s=READ_S)
        except DeviceError as error:
            self._lose(error)
            return None
        if self._capture.ended:
            self.log.info("the video is over after %d frames", self.frames)
            self.stop()
        return shot

    def _lose(self, error: DeviceError) -> None:
        self.log.warning("%s", error)
        self._lost = str(error)
        if self._capture is not None:
            self._capture.close()
            self._capture = None
        self._retry_s = time.monotonic() + self._backoff_s

    def _reopen(self) -> None:
        if time.monotonic() < self._retry_s:
            self.stopping.wait(READ_S)
            return
        try:
            self._capture = open_capture(self)
        except DeviceError as error:
            self._backoff_s = min(LAST_BACKOFF_S, 2 * self._backoff_s)
            self._lose(error)
            return
        self.log.info("camera %s is back", self.parameters.camera)
        self._lost = ""
        self._backoff_s = FIRST_BACKOFF_S

    def _publish(self, shot: Shot, publisher: FramePublisher) -> None:
        frame = Frame.of(
            resize(shot.image, width=self.parameters.width, height=self.parameters.height),
            camera=self.parameters.camera,
            sequence=self.frames,
            mono_ns=shot.mono_ns,
            wall_ns=shot.wall_ns,
            jpeg_quality=self.parameters.jpeg_quality or None,
        )
        publisher.publish(frame, tag=shot.tag, clock=shot.clock)
        self.frames += 1
        self._rate.tick()
        self._stamps.tick((time.time_ns() - shot.wall_ns) / 1e9)


def open_capture(node: CameraNode) -> Capture:
    """Open what the parameters name.

    Raises:
        DeviceError: There is no such camera or stream.
        DatasetError: The file is not there or holds no video.
        ConfigError: There is no such scene.
    """
    parameters = node.parameters
    options = scene_options(parameters.scene_options)
    if parameters.follow:
        from .capture.follow import FollowCapture

        return FollowCapture(
            node.address(parameters.follow),
            scene=parameters.scene,
            options=options,
            name=parameters.camera,
            keys=node.keys,
        )
    if parameters.scene:
        from .capture.scene import SceneCapture

        return SceneCapture(
            parameters.scene,
            options=options,
            rate_hz=parameters.rate_hz,
            action=parameters.action,
            seed=parameters.seed,
        )
    from .capture.video import VideoCapture

    return VideoCapture(
        parameters.source,
        rate_hz=parameters.rate_hz,
        width=parameters.width,
        height=parameters.height,
        loop=parameters.loop,
    )


def scene_options(text: str) -> dict[str, Any]:
    """Read the arguments of a scene.

    Raises:
        ConfigError: They are not a YAML mapping.
    """
    if not text.strip():
        return {}
    yaml = require("yaml", extra="camera")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"scene_options: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"scene_options must be a mapping such as '{{width: 224}}', got {text!r}")
    return values


def resize(image: Image, *, width: int, height: int) -> Image:
    """Return the image at another size by area averaging; 0 keeps it as it is."""
    if not width or image.shape[:2] == (height, width):
        return image
    cv2 = require("cv2", extra="camera")
    scaled: Image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return scaled


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop; returns the exit code."""
    return node_main(CameraParameters, CameraNode, argv)


if __name__ == "__main__":
    sys.exit(main())
