"""Sources of scores: a model in this process, or a reward node somewhere else.

Needs numpy, pyzmq, msgspec and simplejpeg and nothing heavier: it runs on the robot's computer.

Example:
    >>> from robo_reward.client import local
    >>> from robo_reward.models.registry import load_model
    >>> with local(load_model("oracle-pixels")) as source:
    ...     source.info().model
    'oracle-pixels@1'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .local import LocalSource
from .remote import RemoteSource
from .source import ModelInfo, Pending, Source

if TYPE_CHECKING:
    from robo_reward.models.base import RewardModel

__all__ = ["LocalSource", "ModelInfo", "Pending", "RemoteSource", "Source", "connect", "local"]


def connect(address: str, **options: Any) -> RemoteSource:
    """Return a source that asks the reward node at this address; see ``RemoteSource``."""
    return RemoteSource(address, **options)


def local(model: RewardModel) -> LocalSource:
    """Return a source that asks a model in this process; closing it closes the model."""
    return LocalSource(model)
