"""What a model that looks back is shown where cameras push the frames and marks ask by time.

With a query the client names the earlier instants. With a mark only the node knows which frames
were joined, so that it remembers those of the episode that each environment is in.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from robo_reward.frames import Frame
from robo_reward.history import History
from robo_reward.protocol.score import MarkRequest

ENVIRONMENTS = 256
"""Environments (times cameras) of a client that are remembered; the one unused longest goes."""


@dataclass(slots=True, eq=False)
class _Past:
    episode: int
    task: str
    history: History
    step: int = -1
    before: tuple[tuple[Frame, ...], ...] = ()


class Pasts:
    """The earlier instants of one client's episodes."""

    def __init__(self) -> None:
        self._of: OrderedDict[tuple[int, tuple[str, ...]], _Past] = OrderedDict()

    def look_back(
        self, ask: MarkRequest, newest: tuple[Frame, ...], *, limit: int
    ) -> tuple[tuple[Frame, ...], ...]:
        """Return the instants before a mark's, and remember its own.

        A mark that is asked again gets what it got before. Another task begins anew.

        Args:
            ask: The mark.
            newest: Its frames, one per camera.
            limit: How many instants the model looks at.
        """
        if not limit:
            return ()
        # A wrapper asks once per camera where the model takes fewer than it has.
        key = (ask.env, ask.cameras)
        past = self._of.get(key)
        if past is None or (past.episode, past.task) != (ask.episode, ask.task):
            past = self._of[key] = _Past(ask.episode, ask.task, History(limit))
            while len(self._of) > ENVIRONMENTS:
                self._of.popitem(last=False)
        self._of.move_to_end(key)
        if ask.step > past.step:
            past.before = past.history.instants
            past.history.add(newest)
            past.step = ask.step
        return past.before
