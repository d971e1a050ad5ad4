"""Hostile messages: valid ones bent in ways that know their structure, and plain noise.

``Forge`` makes messages from a seed; ``assault`` sends them to the rules of a node and to every
decoder, and holds what must be true of the answers. A run is named by its seed: the same seed gives
the same messages.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import simplejpeg

from robo_reward.frames import Frame, content_hash
from robo_reward.nodes.serving.sessions import Limits
from robo_reward.protocol.envelope import MAGIC, MAX_PART_BYTES, Codec, Header, Refusal
from robo_reward.protocol.handshake import Beat, Cancel, Hello, Welcome
from robo_reward.protocol.payload import checked, refer
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
    read_score,
)
from robo_reward.protocol.stream import BEATS, ITEMS, ActionEvent, FrameItem, Tag, frame_item
from robo_reward.protocol.stream import Beat as StreamBeat
from robo_reward.task import Task
from robo_reward.transport.clock import clock_name

from .desk_bench import BOOT, DeskBench
from .serving_tools import TASK, frame

Message = list[bytes]

SESSIONS = tuple(f"{number:032x}" for number in range(1, 5))
HUGE = bytes(MAX_PART_BYTES + 1)
DEEP = {depth: b"\x91" * depth + b"\xc0" for depth in (30, 900, 4000, 8000)}
BLOWN = (
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\xc1", b"\x81",
    b"\xd9\x20" + b"\xff" * 32,
)  # fmt: skip
STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 255, 256, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0.0, -0.0,
    0.5, -1.0, 1e308, float("inf"), float("-inf"), float("nan"), "", "x", "0" * 32, "g" * 32,
    "ab" * 16, "é" * 16, "\x00" * 32, "a" * 4000, b"", b"\x00\xff" * 16, [], [[]], [None] * 17,
    ["0" * 32] * 129, {}, {"kind": "hello"}, {1: 2}, "../../etc/passwd", "ipc:///tmp/x",
    "__import__('os')",
)  # fmt: skip


def bomb(height: int, width: int) -> bytes:
    """A JPEG of a few hundred bytes that claims this many pixels."""
    data = bytearray(simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


BOMBS = tuple(bomb(*size) for size in ((60_000, 60_000), (65_500, 1), (4000, 4000), (1080, 1920)))
PICTURES: tuple[Frame, ...] = tuple(
    frame(who, step, jpeg=quality)
    for who in range(4)
    for step in range(8)
    for quality in (None, 90)
)
CODECS: tuple[Codec[Any], ...] = (
    TO_NODE, CONTROL_TO_NODE, FROM_NODE, CONTROL_FROM_NODE, BEATS, ITEMS,
)  # fmt: skip


class Forge:
    """Makes messages.

    Args:
        seed: Names the run.
        corpus: Messages worth bending, beside those that it makes itself.
    """

    def __init__(self, seed: int, corpus: Sequence[Message] = ()) -> None:
        self.chance = random.Random(seed)
        self.corpus = list(corpus)
        self.history: list[Message] = []
        self.sealed: set[str] = set()
        self._seq = 0

    def next(self) -> Message:
        """Return the next message: honest, bent, old, or noise."""
        chance = self.chance.random()
        if chance < 0.25:
            made = self.honest()
        elif chance < 0.72:
            made = self.bent(self.honest())
        elif chance < 0.80 and self.corpus:
            made = self.bent(self.chance.choice(self.corpus))
        elif chance < 0.90 and self.history:
            made = self.chance.choice(self.history)  # replayed, and so out of order
            made = made if self.chance.random() < 0.5 else self.bent(made)
        else:
            made = self.noise()
        if len(self.history) < 400:
            self.history.append(made)
        else:
            self.history[self.chance.randrange(400)] = made
        return made

    def honest(self) -> Message:
        """A message as a client, a camera or a node would send it."""
        return self.honest_for()[1]

    def honest_for(self) -> tuple[Codec[Any], Message]:
        """The same, and the decoder of the one who should get it."""
        kind = self.chance.choices(self._KINDS, weights=self._WEIGHTS)[0]
        codec, header, parts = kind(self)
        return codec, [bytes(part) for part in codec.pack(header, parts)]

    def bent(self, message: Message) -> Message:
        """The message with one to three things wrong with it."""
        made = list(message)
        for _ in range(self.chance.choice((1, 1, 2, 3))):
            made = self.chance.choice(self._BENDS)(self, made)
        return made

    def noise(self) -> Message:
        """Parts that never were a message."""
        parts = [self._bytes() for _ in range(self.chance.choice((0, 1, 1, 2, 2, 3, 18)))]
        if self.chance.random() < 0.7:
            parts[:1] = [MAGIC]
        return parts

    # -- honest messages -------------------------------------------------------------------------

    def _session(self) -> str:
        return self.chance.choice(SESSIONS)

    def _hello(self) -> tuple[Codec[Any], Header, list[Any]]:
        hello = Hello(session=self._session(), window=self.chance.choice((1, 16, 64)))
        return TO_NODE, hello, []

    def _task(self) -> tuple[Codec[Any], Header, list[Any]]:
        if self.chance.random() < 0.7:
            put = TaskPut(session=self._session(), key=TASK.key, instruction=TASK.instruction)
            return TO_NODE, put, []
        goal = self.chance.choice(PICTURES)
        task = Task(instruction="another one", goal=goal)
        ref = refer(goal, part=0)
        header = TaskPut(
            session=self._session(), key=task.key, instruction=task.instruction, goal=ref
        )
        return TO_NODE, header, [goal.data]

    def _frames(self) -> tuple[Codec[Any], Header, list[Any]]:
        chosen = self.chance.sample(PICTURES, self.chance.randint(1, 4))
        refs = tuple(refer(one, part=index) for index, one in enumerate(chosen))
        return TO_NODE, FramePut(session=self._session(), frames=refs), [f.data for f in chosen]

    def _question(self) -> dict[str, Any]:
        if self.chance.random() < 0.9:
            self._seq += 1
        return {
            "session": self._session(),
            "boot": BOOT,
            "seq": self._seq,
            "attempt": self.chance.choice((0, 0, 1)),
            "env": 0,
            "episode": 0,
            "step": self._seq,
            "task": TASK.key,
            "budget_s": 1000.0,
        }

    def _score(self) -> tuple[Codec[Any], Header, list[Any]]:
        newest, reference = self.chance.sample(PICTURES, 2)
        inline = self.chance.random() < 0.8
        request = ScoreRequest(
            newest=(refer(newest, part=0 if inline else -1),),
            reference=(refer(reference, part=1 if inline else -1),),
            **self._question(),
        )
        return TO_NODE, request, [newest.data, reference.data] if inline else []

    def _mark(self) -> tuple[Codec[Any], Header, list[Any]]:
        mark = MarkRequest(cameras=("front",), t_from_ns=0, t_to_ns=1, **self._question())
        return TO_NODE, mark, []

    def _cancel(self) -> tuple[Codec[Any], Header, list[Any]]:
        seqs = tuple(range(max(0, self._seq - 3), self._seq + 2))
        return CONTROL_TO_NODE, Cancel(session=self._session(), seqs=seqs), []

    def _beat(self) -> tuple[Codec[Any], Header, list[Any]]:
        return CONTROL_TO_NODE, Beat(session=self._session(), mono_ns=1, wall_ns=2), []

    def _stream_beat(self) -> tuple[Codec[Any], Header, list[Any]]:
        beat = StreamBeat(
            session=self._session(), name="x", mode="auto", sent_wall_ns=1, sent_mono_ns=2
        )
        return BEATS, beat, []

    def _item(self) -> tuple[Codec[Any], Header, list[Any]]:
        if self.chance.random() < 0.5:
            item = ActionEvent(tag=Tag(), mono_ns=1, wall_ns=2, clock=clock_name())
            return ITEMS, item, [bytes(12)]
        picture = self.chance.choice(PICTURES)
        made: FrameItem = frame_item(picture, clock=clock_name())
        return ITEMS, made, [picture.data]

    def _reply(self) -> tuple[Codec[Any], Header, list[Any]]:
        reply = ScoreReply(
            session=self._session(), boot=BOOT, seq=1, env=0, episode=0, step=1, progress=0.5,
            done=0.1, model="m@1", prompt="none",
        )  # fmt: skip
        return FROM_NODE, reply, []

    _KINDS = (
        _hello, _task, _frames, _score, _mark, _cancel, _beat, _stream_beat, _item, _reply,
    )  # fmt: skip
    _WEIGHTS = (6, 6, 6, 40, 4, 5, 4, 6, 8, 8)

    # -- what can be wrong -----------------------------------------------------------------------

    def _header(self, message: Message) -> dict[str, Any]:
        try:
            fields = msgspec.msgpack.decode(message[1])
        except (msgspec.DecodeError, IndexError, UnicodeDecodeError, RecursionError):
            return {}
        return fields if isinstance(fields, dict) else {}

    def _with_header(self, message: Message, fields: Any) -> Message:
        try:
            return [*message[:1], msgspec.msgpack.encode(fields), *message[2:]]
        except (OverflowError, ValueError, RecursionError):
            return message

    def _odd_field(self, message: Message) -> Message:
        fields = self._header(message)
        if not fields:
            return self._flip(message)
        key = self.chance.choice(list(fields))
        value = fields[key]
        if isinstance(value, list) and value and self.chance.random() < 0.7:
            at = self.chance.randrange(len(value))
            if isinstance(value[at], dict) and value[at]:
                inner = self.chance.choice(list(value[at]))
                value[at][inner] = self._near(value[at][inner])
            else:
                value[at] = self._near(value[at])
        else:
            fields[key] = self._near(value)
        return self._with_header(message, fields)

    def _near(self, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and self.chance.random() < 0.4:
            return value + self.chance.choice((-1, 1, 7, -value))
        if isinstance(value, list) and value and self.chance.random() < 0.4:
            return self.chance.choice((value[:-1], value * 2, value * 17, [value]))
        return self.chance.choice(STRANGE)

    def _lost_field(self, message: Message) -> Message:
        fields = self._header(message)
        if fields:
            del fields[self.chance.choice(list(fields))]
        return self._with_header(message, fields)

    def _new_field(self, message: Message) -> Message:
        fields = self._header(message)
        fields[self.chance.choice(("v", "kind", "extra", "seq", "part", "id"))] = self._near(None)
        return self._with_header(message, fields)

    def _other_kind(self, message: Message) -> Message:
        kinds = ("hello", "frames", "task", "score", "mark", "cancel", "beat", "reply", "no", "")
        return self._with_header(
            message, {**self._header(message), "kind": self.chance.choice(kinds)}
        )

    def _flip(self, message: Message) -> Message:
        if not message:
            return message
        at = self.chance.randrange(len(message))
        data = bytearray(message[at])
        for _ in range(self.chance.choice((1, 1, 4, 16))):
            if data:
                data[self.chance.randrange(len(data))] ^= 1 << self.chance.randrange(8)
        return [*message[:at], bytes(data), *message[at + 1 :]]

    def _cut(self, message: Message) -> Message:
        if not message:
            return message
        at = self.chance.randrange(len(message))
        piece = message[at][: self.chance.randrange(len(message[at]) + 1)]
        return [*message[:at], piece, *message[at + 1 :]]

    def _blown(self, message: Message) -> Message:
        whole = self.chance.random() < 0.5
        data = self.chance.choice((*BLOWN, *DEEP.values()))
        head = message[1] if len(message) > 1 else b""
        at = 0 if whole else self.chance.randrange(len(head) + 1)
        return [*message[:1], head[:at] + data, *message[2:]]

    def _parts(self, message: Message) -> Message:
        made = list(message)
        action = self.chance.randrange(6)
        if action == 0 and made:
            del made[self.chance.randrange(len(made))]
        elif action == 1:
            made.insert(self.chance.randrange(len(made) + 1), self._bytes())
        elif action == 2 and len(made) > 2:
            made[-1] = self.chance.choice(BOMBS)
        elif action == 3 and len(made) > 3:
            made[2], made[3] = made[3], made[2]
        elif action == 4:
            made += [b""] * self.chance.choice((1, 15, 17))
        elif self.chance.random() < 0.02:
            made.append(HUGE)
        return made

    def _shape(self, message: Message) -> Message:
        fields = self._header(message)
        for name in ("newest", "reference", "frames"):
            refs = fields.get(name)
            if isinstance(refs, list) and refs and isinstance(refs[0], dict):
                refs[0]["shape"] = self.chance.choice(
                    ([16, 16, 3], [60_000, 60_000, 3], [1920, 1080, 3], [4096, 4096, 3], [8, 8, 1],
                     [8, 8], [0, 8, 3], [-8, 8, 3])
                )  # fmt: skip
                refs[0]["encoding"] = self.chance.choice(("jpeg", "rgb8", "rgb16", "png"))
        return self._with_header(message, fields)

    def _sealed(self, message: Message) -> Message:
        """Wrong bytes under their right hash: the decoder of pictures gets to see them."""
        fields = self._header(message)
        refs = [ref for name in ("newest", "reference", "frames") for ref in _refs(fields, name)]
        if not refs or len(message) < 3:
            return message
        ref, at = self.chance.choice(refs), self.chance.randrange(2, len(message))
        made = self.chance.choice((self._flip, self._cut))([message[at]])
        if self.chance.random() < 0.1:
            made = [self.chance.choice(BOMBS)]
        shape = self.chance.choice(([8, 8, 3], [8, 8, 3], [1080, 1920, 3], [4000, 4000, 3]))
        encoding = self.chance.choice(("jpeg", "jpeg", "rgb8"))
        name = content_hash(made[0], encoding=encoding, shape=(shape[0], shape[1], 3))
        self.sealed.add(name)
        ref.update(part=at - 2, shape=shape, encoding=encoding, id=name)
        return self._with_header([*message[:at], made[0], *message[at + 1 :]], fields)

    def _bytes(self) -> bytes:
        size = self.chance.choice((0, 1, 4, 40, 200))
        return self.chance.choice((self.chance.randbytes(size), bytes(size), b"GET / HTTP/1.1\r\n"))

    _BENDS = (
        _odd_field, _odd_field, _odd_field, _lost_field, _new_field, _other_kind, _flip, _flip,
        _cut, _blown, _parts, _parts, _shape, _sealed, _sealed,
    )  # fmt: skip


def _refs(fields: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = fields.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


@dataclass(slots=True, kw_only=True)
class Report:
    """What an assault came to.

    Attributes:
        messages: Sent.
        counts: Refusals by reason, and answers by ``out_`` and reason.
        wrong: What must not have happened, in words.
    """

    messages: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


BOUNDS = Limits(
    sessions=8, tasks=8, window=32, queue=64, replies=64, store_bytes=8 * 1024,
    peer_messages_s=1e9, peer_bytes_s=1e15,
)  # fmt: skip


class Assault:
    """Sends forged messages to the rules of a node and to every decoder.

    Args:
        seed: Names the run.
        corpus: Messages worth bending.
    """

    def __init__(self, seed: int, corpus: Sequence[Message] = ()) -> None:
        self.forge = Forge(seed, corpus)
        self.bench = DeskBench(BOUNDS)
        self.report = Report()
        self._asked: set[tuple[str, int]] = set()
        self._scores = {one.id: expected_of(index) for index, one in enumerate(PICTURES)}
        for session in SESSIONS:
            for header in (
                Hello(session=session, window=32),
                TaskPut(session=session, key=TASK.key, instruction=TASK.instruction),
            ):
                self.bench.take(self._routing(session), TO_NODE.pack(header))

    def run(self, messages: int) -> Report:
        """Send this many messages, and see that everything was answered rightly."""
        for number in range(messages):
            self.send(self.forge.next())
            if number % 8 == 0:
                self.bench.pump()
                self._check_answers()
            if number % 512 == 0:
                self._check_bounds()
        self.bench.settle()
        self._check_answers()
        self._check_bounds()
        if self.bench.desk.open_jobs or self.bench.desk.open_bytes:
            self._complain(f"{self.bench.desk.open_jobs} requests are still open")
        return self.report

    def send(self, message: Message) -> None:
        """Send one message everywhere; only a refusal may come of it."""
        self.report.messages += 1
        before = len(self.bench.refused)
        try:
            header = self.bench.take(self._routing(_session_of(message)), message)
            if isinstance(header, ScoreRequest | MarkRequest):
                self._asked.add((header.session, header.seq))
            elif header is None:
                self._elsewhere(message)
        except Exception as error:  # what a fuzzer is for
            self._complain(f"{type(error).__name__}: {error} for {message!r}"[:2000])
        for refusal in self.bench.refused[before:]:
            self.report.counts[f"refused_{refusal.reason}"] += 1
            if "Traceback" in refusal.detail or ("/" in refusal.detail and ".py" in refusal.detail):
                self._complain(f"a refusal tells too much: {refusal.detail}")
        self.bench.refused.clear()

    def _elsewhere(self, message: Message) -> None:
        """Show what is no message of the score socket to the control socket, or to a client."""
        if self.forge.chance.random() < 0.5:
            self.bench.control(message)
        else:
            read(self.forge.chance.choice(CODECS[2:]), message, self.report)

    def _check_answers(self) -> None:
        for _, header in self.bench.sent:
            if isinstance(header, ScoreReply):
                self.report.counts[f"out_{header.reason}"] += 1
                self._check_reply(header)
            elif isinstance(header, Welcome) and header.boot != BOOT:
                self._complain("a welcome of another node")
        self.bench.sent.clear()

    def _check_detail(self, detail: str) -> None:
        if "Traceback" in detail or ".py" in detail:
            self._complain(f"a refusal tells too much: {detail}")

    def _check_reply(self, reply: ScoreReply) -> None:
        self._check_detail(reply.detail)
        if (reply.session, reply.seq) not in self._asked:
            self._complain(f"an answer to what was not asked: {reply}")
        if reply.reason != "OK":
            if reply.progress is not None or reply.done is not None:
                self._complain(f"numbers beside {reply.reason}")
            return
        want = self._scores.get(reply.frames[0])
        if want is None and reply.frames[0] in self.forge.sealed:
            return  # a bent picture that still is one
        said = np.array([reply.progress, reply.done], np.float64)  # None is NaN, and not near
        if want is None or not np.allclose(said, want, rtol=0.0, atol=1e-6):
            self._complain(f"a wrong score: {reply.frames} {reply.progress} instead of {want}")

    def _check_bounds(self) -> None:
        desk, limits = self.bench.desk, BOUNDS
        held = {
            "sessions": (len(desk.sessions), limits.sessions),
            "jobs": (desk.open_jobs, limits.queue),
            # One frame is kept however large it is.
            "bytes": (desk.store.size_bytes if len(desk.store) > 1 else 0, limits.store_bytes),
            "tasks": (max((len(s.tasks) for s in desk.sessions.all()), default=0), limits.tasks),
            "replies": (
                max((len(s.replies) for s in desk.sessions.all()), default=0),
                limits.replies,
            ),
            "waiting": (len(self.bench.batcher), limits.queue),
        }
        kept = sum(slot.size for slot in desk.store._slots.values())
        if kept != desk.store.size_bytes:
            self._complain(f"{kept} bytes are kept, {desk.store.size_bytes} counted")
        for name, (found, most) in held.items():
            if found > most:
                self._complain(f"{found} {name}, at most {most}")
        for session in SESSIONS:
            if desk.sessions.find(session) is not None:
                desk.heard(session)

    def _complain(self, text: str) -> None:
        if len(self.report.wrong) < 20:
            self.report.wrong.append(text)

    @staticmethod
    def _routing(session: str) -> bytes:
        return b"route" + session.encode()[:32]


def read(codec: Codec[Any], message: Message, report: Report) -> None:
    """Decode a message as its receiver does; only a refusal may come of it."""
    try:
        header, parts = codec.unpack(message)
        if isinstance(header, FrameItem) and len(parts) == 1:
            checked(header, parts[0])
        elif isinstance(header, ScoreReply):
            read_score(header, reference=(), total_s=0.0)
    except Refusal as refusal:
        report.counts[f"refused_{refusal.reason}"] += 1
        return
    except ValueError:
        if not isinstance(header, ScoreReply):
            raise
        report.counts["replies_refused"] += 1
        return
    report.counts[f"read_{type(header).__name__}"] += 1


Addressed = tuple[Codec[Any], Message]


def bombard(seed: int, messages: int, goldens: Sequence[Addressed] = ()) -> Report:
    """Bend messages, a few hundred honest ones and the golden ones, for the decoders alone."""
    forge, report = Forge(seed), Report()
    pool = [*(forge.honest_for() for _ in range(300)), *goldens]
    for _ in range(messages):
        report.messages += 1
        codec, message = forge.chance.choice(pool)
        message = forge.bent(message)
        if forge.chance.random() < 0.1:
            codec = forge.chance.choice(CODECS)
        try:
            read(codec, message, report)
        except Exception as error:
            report.wrong.append(f"{type(error).__name__}: {error} for {message!r}"[:2000])
    return report


def expected_of(index: int) -> tuple[float, float]:
    """Progress and done of ``PICTURES[index]`` as the model will read them."""
    image = PICTURES[index].image
    return float(image[0, 0, 0] / 255), float(image[0, 1, 0] / 255)


def _session_of(message: Message) -> str:
    try:
        fields = msgspec.msgpack.decode(message[1])
        return str(fields["session"])
    except Exception:
        return SESSIONS[0]


def assault(seed: int, messages: int) -> Report:
    """Run one assault."""
    return Assault(seed).run(messages)
