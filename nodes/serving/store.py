"""The frames that a node has, by content hash: checked, decoded, bounded."""

from __future__ import annotations

from collections import OrderedDict, deque
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from robo_reward.frames import Frame
from robo_reward.protocol.envelope import Buffer, Refusal
from robo_reward.protocol.payload import FrameRef, check_frame, restore

LOADING_LIMIT = 512
# Checking and decoding so few pixels takes 0.2 ms, less than waking another thread and being woken.
SMALL_BYTES = 256 * 1024


@dataclass(slots=True, eq=False)
class Slot:
    """A frame that is there or being decoded, and what it weighs in bytes."""

    frame: Frame | Future[Frame]
    size: int


class FrameStore:
    """Keeps the frames used last. Only the I/O thread calls it.

    Args:
        pool: Where large frames are checked and decoded.
        capacity_bytes: Pixels and compressed bytes that are kept.
    """

    def __init__(self, pool: Executor, *, capacity_bytes: int = 256 * 1024 * 1024) -> None:
        self.capacity_bytes = capacity_bytes
        self.size_bytes = 0
        self.decoded = 0
        self._pool = pool
        self._slots: OrderedDict[str, Slot] = OrderedDict()
        self._loading: deque[Future[Frame]] = deque()

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._slots)

    def put(self, ref: FrameRef, data: Buffer) -> bool:
        """Take a frame in.

        Returns:
            Whether the bytes were taken; those of a frame that is there already are ignored.

        Raises:
            Refusal: ``TOO_LARGE`` or ``BAD_PAYLOAD``, for a large frame by its look only; ``BUSY``
                when too many frames wait to be decoded.
        """
        if self.get(ref.id) is not None:
            return False
        pixels = ref.shape[0] * ref.shape[1] * 3
        slot = Slot(
            frame=self._load(ref, data, pixels),
            size=pixels if ref.encoding == "rgb8" else pixels + len(data),
        )
        self.decoded += 1
        self._slots[ref.id] = slot
        self.size_bytes += slot.size
        while self.size_bytes > self.capacity_bytes and len(self._slots) > 1:
            self._drop(next(iter(self._slots)))
        return True

    def get(self, frame_id: str) -> Frame | Future[Frame] | None:
        """Return a frame, perhaps still being decoded, or ``None``."""
        slot = self._slots.get(frame_id)
        if slot is None:
            return None
        if isinstance(slot.frame, Future) and slot.frame.done():
            if slot.frame.exception() is not None:
                self._drop(frame_id)  # it was not what it claimed; the next bytes may be right
                return None
            slot.frame = slot.frame.result()
        self._slots.move_to_end(frame_id)
        return slot.frame

    def _load(self, ref: FrameRef, data: Buffer, pixels: int) -> Frame | Future[Frame]:
        if pixels <= SMALL_BYTES:
            return restore(ref, data)
        check_frame(ref.shape, ref.encoding, data)
        while self._loading and self._loading[0].done():
            self._loading.popleft()
        if len(self._loading) >= LOADING_LIMIT:
            raise Refusal("BUSY", f"{len(self._loading)} frames wait to be decoded")
        frame = self._pool.submit(restore, ref, data)
        self._loading.append(frame)
        return frame

    def _drop(self, frame_id: str) -> None:
        self.size_bytes -= self._slots.pop(frame_id).size
