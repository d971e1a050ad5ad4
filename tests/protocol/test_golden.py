"""Bytes of version 1 that every later version of this major must still read.

``python -m tests.protocol.test_golden`` writes the files that are missing; one that exists is never
written again: where it no longer fits, the protocol was broken.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from robo_reward.protocol.envelope import Codec, Header
from robo_reward.protocol.handshake import Beat, BeatReply, Cancel, Hello, Refused, Welcome
from robo_reward.protocol.payload import FrameRef
from robo_reward.protocol.score import (
    CONTROL_FROM_NODE,
    CONTROL_TO_NODE,
    FROM_NODE,
    TO_NODE,
    FramePut,
    MarkRequest,
    ScoreReply,
    ScoreRequest,
    TaskPut,
)

FOLDER = Path(__file__).parent / "golden"
SESSION = "00112233445566778899aabbccddeeff"
BOOT = "ffeeddccbbaa99887766554433221100"
TASK = "0123456789abcdef0123456789abcdef"
PIXELS = bytes(range(2 * 2 * 3))
REF = FrameRef(
    camera="front",
    sequence=7,
    mono_ns=1_000_000_007,
    wall_ns=1_700_000_000_000_000_007,
    id="9f" * 16,
    encoding="rgb8",
    shape=(2, 2, 3),
    age_s=0.25,
    part=0,
)
JPEG = FrameRef(
    camera="wrist",
    sequence=8,
    mono_ns=1_000_000_008,
    wall_ns=1_700_000_000_000_000_008,
    id="8e" * 16,
    encoding="jpeg",
    shape=(480, 640, 3),
)
NAME: dict[str, Any] = {
    "session": SESSION,
    "seq": 41,
    "attempt": 1,
    "env": 3,
    "episode": 2,
    "step": 99,
}

WELCOME = Welcome(
    session=SESSION,
    boot=BOOT,
    minor=0,
    window=8,
    control=5602,
    model="compact@abc",
    prompt="p0",
    calibration="none",
    signals=("progress", "done"),
    max_views=2,
    goal_image=True,
)
MESSAGES: dict[str, tuple[Codec[Header], Header, list[bytes]]] = {
    "hello": (TO_NODE, Hello(session=SESSION, software="0.1.0", window=8), []),
    "frames": (TO_NODE, FramePut(session=SESSION, frames=(REF,)), [PIXELS]),
    "task": (
        TO_NODE,
        TaskPut(
            session=SESSION,
            key=TASK,
            instruction="put the red cube on the blue pad",
            stage="grasp the cube",
            goal=JPEG,
            demo=("7d" * 16, "6c" * 16),
        ),
        [],
    ),
    "score": (
        TO_NODE,
        ScoreRequest(boot=BOOT, task=TASK, budget_s=2.0, newest=(REF,), reference=(JPEG,), **NAME),
        [PIXELS],
    ),
    "mark": (
        TO_NODE,
        MarkRequest(
            boot=BOOT,
            task=TASK,
            budget_s=0.25,
            cameras=("front", "wrist"),
            t_from_ns=1_700_000_000_000_000_000,
            t_to_ns=1_700_000_000_100_000_000,
            **NAME,
        ),
        [],
    ),
    "welcome": (FROM_NODE, WELCOME, []),
    "welcome_history": (FROM_NODE, msgspec.structs.replace(WELCOME, history=8), []),
    "refused": (
        FROM_NODE,
        Refused(reason="NOT_READY", detail="the node is configuring", boot=BOOT, retry_after_s=0.5),
        [],
    ),
    "reply": (
        FROM_NODE,
        ScoreReply(
            boot=BOOT,
            progress=0.5,
            progress_delta=-0.25,
            done=0.125,
            contrastive=-1.0,
            uncertainty=0.0,
            delta_from=("8e" * 16,),
            frames=("9f" * 16,),
            model="compact@abc",
            prompt="p0",
            age_s=0.3,
            queue_s=0.002,
            decode_s=0.001,
            inference_s=0.01,
            batch=4,
            **NAME,
        ),
        [],
    ),
    "reply-need-frames": (
        FROM_NODE,
        ScoreReply(boot=BOOT, reason="NEED_FRAMES", need=("9f" * 16,), **NAME),
        [],
    ),
    "beat": (
        CONTROL_TO_NODE,
        Beat(session=SESSION, mono_ns=5, wall_ns=1_700_000_000_000_000_000),
        [],
    ),
    "beat-reply": (
        CONTROL_FROM_NODE,
        BeatReply(
            session=SESSION,
            boot=BOOT,
            known=True,
            state="active",
            echo_mono_ns=5,
            echo_wall_ns=1_700_000_000_000_000_000,
            wall_ns=1_700_000_000_000_000_500,
            last_batch_age_s=0.5,
            queued=3,
            clock="0011223344556677",
        ),
        [],
    ),
    "cancel": (CONTROL_TO_NODE, Cancel(session=SESSION, seqs=(1, 2, 300)), []),
}


GREW = {"welcome"}
"""Headers that have gained fields beyond the fifteen of a short map: other bytes, the same map."""


def joined(parts: list[bytes]) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def split(data: bytes) -> list[bytes]:
    parts = []
    while data:
        (size,) = struct.unpack_from(">I", data)
        parts.append(data[4 : 4 + size])
        data = data[4 + size :]
    return parts


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_bytes_of_version_1_are_read_and_written(name: str) -> None:
    codec, header, parts = MESSAGES[name]
    golden = (FOLDER / f"{name}.bin").read_bytes()
    assert codec.unpack(split(golden)) == (header, parts)
    written = joined([bytes(part) for part in codec.pack(header, parts)])
    if name in GREW:
        assert msgspec.msgpack.decode(split(written)[1]) == msgspec.msgpack.decode(split(golden)[1])
    else:
        assert written == golden


def test_every_file_has_its_message() -> None:
    assert {path.stem for path in FOLDER.glob("*.bin")} >= set(MESSAGES)


if __name__ == "__main__":
    for each, (its_codec, its_header, its_parts) in MESSAGES.items():
        path = FOLDER / f"{each}.bin"
        if not path.exists():
            path.write_bytes(
                joined([bytes(part) for part in its_codec.pack(its_header, its_parts)])
            )
