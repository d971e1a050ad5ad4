"""Which lines of the code under fire a message reaches first: such messages are worth bending.

Only Python lines are seen, not branches, and nothing of what msgspec and simplejpeg do in C. From
Python 3.12 on ``sys.monitoring`` reports each line once and costs next to nothing; before that
``sys.settrace`` makes everything about three times slower.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import robo_reward.nodes.serving.desk as desk
import robo_reward.protocol.envelope as envelope

FOLDERS = tuple(str(Path(str(module.__file__)).parent) for module in (envelope, desk))
TOOL = 4


class Lines:
    """The lines reached so far.

    Example:
        >>> lines = Lines()
        >>> with lines.watched():
        ...     _ = envelope.Refusal("BUSY", "x")
        >>> lines.fresh() > 0, lines.fresh()
        (True, 0)
    """

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()
        self._told = 0

    def fresh(self) -> int:
        """Return how many lines were reached for the first time since this was asked last."""
        found, self._told = len(self.seen) - self._told, len(self.seen)
        return found

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch this thread while the block runs."""
        if sys.version_info >= (3, 12):
            with self._monitored():
                yield
            return
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)

    @contextmanager
    def _monitored(self) -> Iterator[None]:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        monitoring.use_tool_id(TOOL, "robo-reward fuzz")
        monitoring.register_callback(TOOL, monitoring.events.LINE, self._line)
        monitoring.set_events(TOOL, monitoring.events.LINE)
        try:
            yield
        finally:
            monitoring.set_events(TOOL, 0)
            monitoring.free_tool_id(TOOL)

    def _line(self, code: CodeType, number: int) -> object:
        if code.co_filename.startswith(FOLDERS):
            self.seen.add((code.co_filename, number))
        return sys.monitoring.DISABLE  # type: ignore[attr-defined,unused-ignore]

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._local if frame.f_code.co_filename.startswith(FOLDERS) else None

    def _local(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.seen.add((frame.f_code.co_filename, frame.f_lineno))
        return self._local
