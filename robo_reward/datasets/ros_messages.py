"""ROS 2 image and state messages, decoded by rosbags, as frames and as rows of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import DatasetError
from robo_reward.frames import Frame, FrameHeader, Image, content_hash

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
IMAGES = frozenset({IMAGE, COMPRESSED})

_VECTORS: dict[str, tuple[str, ...]] = {
    "sensor_msgs/msg/JointState": ("position",),
    "std_msgs/msg/Float32MultiArray": ("data",),
    "std_msgs/msg/Float64MultiArray": ("data",),
    "trajectory_msgs/msg/JointTrajectoryPoint": ("positions",),
    "geometry_msgs/msg/Twist": ("linear", "angular"),
    "geometry_msgs/msg/TwistStamped": ("twist",),
    "geometry_msgs/msg/Pose": ("position", "orientation"),
    "geometry_msgs/msg/PoseStamped": ("pose",),
}
"""Message type → the fields that make its row, nested ones in their order."""
VECTORS = frozenset(_VECTORS)

_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC1": 1, "8UC3": 3}


def stamp_of(message: Any, *, log_ns: int) -> int:
    """Return when a message was made: its header's stamp, or where that is 0 when it was logged."""
    header = getattr(message, "header", None)
    stamp = 0 if header is None else header.stamp.sec * 10**9 + header.stamp.nanosec
    return int(stamp) or log_ns


def frame_of(message: Any, kind: str, *, camera: str, sequence: int, stamp_ns: int) -> Frame:
    """Make a frame; a JPEG keeps its bytes and is named by them.

    Raises:
        DatasetError: An encoding that is no colour picture, or a broken picture.
    """
    if kind == COMPRESSED:
        data = bytes(message.data)
        if data[:2] == b"\xff\xd8":
            return _jpeg(data, camera=camera, sequence=sequence, stamp_ns=stamp_ns)
        image = _with_pillow(data, camera)
    else:
        image = _raw(message, camera)
    return Frame.of(image, camera=camera, sequence=sequence, mono_ns=stamp_ns, wall_ns=stamp_ns)


def row_of(message: Any, kind: str) -> NDArray[np.float64]:
    """Return the numbers of a state or an action, ``(d,)``."""
    return np.array(_flat([getattr(message, name) for name in _VECTORS[kind]]), np.float64)


def _flat(values: Any) -> list[float]:
    if isinstance(values, (int, float)):
        return [float(values)]
    if isinstance(values, (list, tuple, np.ndarray)):
        return [number for value in values for number in _flat(value)]
    if hasattr(values, "item"):
        return [float(values)]
    names = [name for name in vars(values) if not name.startswith("_")]
    return [number for name in names for number in _flat(getattr(values, name))]


def _jpeg(data: bytes, *, camera: str, sequence: int, stamp_ns: int) -> Frame:
    import simplejpeg

    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise DatasetError(f"{camera}: a JPEG that cannot be read: {error}") from error
    shape = (int(height), int(width), 3)
    header = FrameHeader(
        camera=camera,
        sequence=sequence,
        mono_ns=stamp_ns,
        wall_ns=stamp_ns,
        id=content_hash(data, encoding="jpeg", shape=shape),
        encoding="jpeg",
        shape=shape,
    )
    return Frame(header, data)


def _with_pillow(data: bytes, camera: str) -> Image:
    import io

    from robo_reward.errors import require

    pil: Any = require("PIL.Image", extra="viz")
    try:
        return np.asarray(pil.open(io.BytesIO(data)).convert("RGB"))
    except OSError as error:
        raise DatasetError(f"{camera}: a compressed image that cannot be read: {error}") from error


def _raw(message: Any, camera: str) -> Image:
    channels = _CHANNELS.get(message.encoding)
    if channels is None:
        raise DatasetError(
            f"{camera} is {message.encoding!r}, read are {', '.join(_CHANNELS)}; "
            "choose other topics with --cameras"
        )
    height, width, step = int(message.height), int(message.width), int(message.step)
    rows = np.frombuffer(message.data, np.uint8)
    if step < width * channels or rows.size < height * step:
        raise DatasetError(f"{camera}: {rows.size} bytes for {height} rows of {step}")
    # A row may be longer than its pixels.
    pixels = rows[: height * step].reshape(height, step)[:, : width * channels]
    image = pixels.reshape(height, width, channels)
    if channels == 1:
        return np.repeat(image, 3, 2)
    image = image[:, :, :3]
    swapped = message.encoding.startswith("b") or message.encoding == "8UC3"
    return np.ascontiguousarray(image[:, :, ::-1] if swapped else image)
