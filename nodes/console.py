"""What a node writes to its terminal: log lines, and one status line that is rewritten."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from typing import TextIO

CLEAR_LINE = "\r\x1b[2K"
LOG_EVERY_S = 10.0


class StatusLine:
    """One line at the bottom of the terminal; a log entry now and then where there is none.

    Args:
        stream: Where to write; standard error when not given.
        logger: Gets the status every ten seconds when ``stream`` is not a terminal.
    """

    def __init__(
        self, *, stream: TextIO | None = None, logger: logging.Logger | None = None
    ) -> None:
        self.stream = sys.stderr if stream is None else stream
        self._logger = logger
        self._shown = ""
        self._logged_s = time.monotonic()

    def show(self, text: str) -> None:
        """Replace the line by ``text``."""
        if self.stream.isatty():
            width = shutil.get_terminal_size().columns - 1
            self._shown = text[:width]
            self.stream.write(f"{CLEAR_LINE}{self._shown}")
            self.stream.flush()
        elif self._logger is not None and time.monotonic() - self._logged_s >= LOG_EVERY_S:
            self._logged_s = time.monotonic()
            self._logger.info("%s", text)

    def clear(self) -> None:
        """Take the line away, so that something else may be written."""
        if self._shown:
            self.stream.write(CLEAR_LINE)
            self.stream.flush()

    def redraw(self) -> None:
        """Put the last line back."""
        if self._shown:
            self.stream.write(self._shown)
            self.stream.flush()


class ConsoleHandler(logging.Handler):
    """Writes records above the status line."""

    def __init__(self, status: StatusLine) -> None:
        super().__init__()
        self._status = status

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            text = self.format(record)
            self._status.clear()
            self._status.stream.write(text + "\n")
            self._status.redraw()
            self._status.stream.flush()
        except (OSError, ValueError):
            self.handleError(record)


def set_up_logging(status: StatusLine, *, level: str = "info") -> None:
    """Send the log of ``robo_reward`` to the terminal, above the status line."""
    handler = ConsoleHandler(status)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
    )
    logger = logging.getLogger("robo_reward")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def colours_wanted(stream: TextIO) -> bool:
    """Whether colour codes may be written to this stream."""
    return stream.isatty() and "NO_COLOR" not in os.environ
