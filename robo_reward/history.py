"""What a model that looks back is shown of an episode: its first instant and evenly spaced others.

The spacing doubles whenever the room is full, so that memory stays bounded whatever the length of
the episode, and so that the histories of consecutive steps begin alike: a model that keeps what it
has read (a prefix in a key-value cache) reads only what is new.
"""

from __future__ import annotations

from collections.abc import Sequence

from robo_reward.frames import Frame

Views = tuple[Frame, ...]
"""One frame per camera, of one instant."""


class History:
    """Keeps at most ``limit`` instants of an episode, the first one always among them.

    Args:
        limit: ``Capabilities.history`` of the model; 0 keeps nothing.

    Raises:
        ValueError: It is negative.
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"limit must be >= 0, got {limit}")
        self._limit = limit
        self._spacing = 1
        self._seen = 0
        self._kept: list[Views] = []

    @property
    def instants(self) -> tuple[Views, ...]:
        """What is kept, oldest first."""
        return tuple(self._kept)

    def add(self, views: Views) -> None:
        """Take the next instant of the episode in; it is kept if its turn has come."""
        number, self._seen = self._seen, self._seen + 1
        if not self._limit or number % self._spacing:
            return
        if len(self._kept) == self._limit:
            del self._kept[1::2]
            self._spacing *= 2
            if number % self._spacing or len(self._kept) == self._limit:
                return
        self._kept.append(views)


def looked_back(clip: Sequence[Views], *, limit: int) -> tuple[Views, ...]:
    """Return the history that a model with this limit is shown after these instants."""
    history = History(limit)
    for views in clip:
        history.add(views)
    return history.instants
