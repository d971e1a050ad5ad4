"""Waiting for several futures at once without a thread that waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any


def gather(
    things: Sequence[object],
    then: Callable[[list[object], BaseException | None], None],
) -> None:
    """Call ``then`` with all values, or the first error, once every future among them is done."""
    waiting = [one for one in things if isinstance(one, Future) and not one.done()]
    if not waiting:
        then(*_results(things))
        return
    left = len(waiting)
    lock = threading.Lock()

    def count(_: Future[Any]) -> None:
        nonlocal left
        with lock:
            left -= 1
            if left:
                return
        then(*_results(things))

    for future in waiting:
        future.add_done_callback(count)


def _results(things: Sequence[object]) -> tuple[list[object], BaseException | None]:
    values = []
    for one in things:
        if isinstance(one, Future):
            error = one.exception()
            if error is not None:
                return [], error
            one = one.result()
        values.append(one)
    return values, None
