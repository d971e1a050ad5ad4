"""The one exception tree, and the exit code each branch gives the command line.

    RoboRewardError                  1  failed while running
    ├── ConfigError                  2  usage: bad value, unknown name, bad instruction
    │   ├── ModelNotFound
    │   └── InstructionError
    ├── MissingDependency            3  an extra or a weight file is not there
    ├── DeviceError                  4  no such camera or GPU, port busy, no permission
    ├── TransportError               1
    │   ├── PeerUnreachable          5  nobody answers
    │   ├── AccessDenied             5  the other end does not let this one in
    │   ├── RewardLost               5  scores stayed away longer than `patience`
    │   └── ProtocolMismatch         6  the two ends speak different versions
    ├── DatasetError                 6  unreadable data
    └── ModelError                   1  a model raised or returned what it must not
        └── OutOfMemoryError         1  there is no room for one query

Every message says what was wanted, what was there, and what to do.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import ClassVar


class RoboRewardError(Exception):
    """Base of every error that robo-reward raises on purpose."""

    exit_code: ClassVar[int] = 1


class ConfigError(RoboRewardError, ValueError):
    """A setting is wrong; the message names all the problems found."""

    exit_code = 2


class ModelNotFound(ConfigError):
    """No reward model has this name, folder or hub id."""


class InstructionError(ConfigError):
    """The sentence that describes the task cannot be used."""


class MissingDependency(RoboRewardError, ImportError):
    """An optional package or a weight file is missing; the message holds the line that gets it."""

    exit_code = 3


class DeviceError(RoboRewardError):
    """A camera, GPU or port is absent, busy or forbidden."""

    exit_code = 4


class TransportError(RoboRewardError):
    """The network did not do what was asked."""


class PeerUnreachable(TransportError):
    """Nobody answered at this address in time."""

    exit_code = 5


class AccessDenied(TransportError):
    """The other end refuses this one's key, or what its role asks for."""

    exit_code = 5


class RewardLost(TransportError):
    """Scores stayed away for longer than the patience or the missing limit that was set."""

    exit_code = 5


class ProtocolMismatch(TransportError):
    """The other end speaks a version that this one does not."""

    exit_code = 6


class DatasetError(RoboRewardError):
    """A recording, video or label file cannot be read."""

    exit_code = 6


class ModelError(RoboRewardError):
    """A reward model raised, or returned the wrong number of rows."""


class OutOfMemoryError(ModelError):
    """There is no memory for even one query; the node makes its batches smaller at this name."""


def require(package: str, *, extra: str) -> ModuleType:
    """Import an optional package.

    Args:
        package: Name as it is imported, for example ``"mujoco"``.
        extra: The extra of robo-reward that installs it.

    Returns:
        The imported module.

    Raises:
        MissingDependency: The package is not installed; the message is the pip line.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependency(
            f"{package} is not installed (or broken: {error}); "
            f'run: pip install "robo-reward[{extra}]"'
        ) from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that lists what exists, the closest names first."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}known: {', '.join(names) or 'none'}"
