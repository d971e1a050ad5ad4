"""Rule-based checks: verdicts on ``done`` that need no guessing, and outrank a model's.

A check is anything with a name that says of a query ``True`` (the goal holds), ``False`` (it does
not) or ``None`` (no opinion): a limit on joint positions or forces, a predicate of a simulator, a
person with a button. Of several, one ``False`` outranks any number of ``True``: a false done ends
an episode and pays for it, a late one costs a few steps.
"""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from robo_reward.errors import ConfigError
from robo_reward.query import Query

REMEMBERED = 4096
"""Verdicts that ``Told`` keeps; the oldest one goes first."""


class Check(Protocol):
    """Gives verdicts on whether the goal holds."""

    @property
    def name(self) -> str:
        """What the verdict is recorded under."""

    def verdict(self, query: Query) -> bool | None:
        """Return whether the goal holds in the newest frame, ``None`` for no opinion."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A check made of a function.

    Attributes:
        name: What the verdict is recorded under.
        function: Says of a query what ``Check.verdict`` says.
    """

    name: str
    function: Callable[[Query], bool | None]

    def verdict(self, query: Query) -> bool | None:
        """Ask the function."""
        return self.function(query)


class Told:
    """A check that is told its verdicts, by whoever reads force sensors, or by a person.

    Safe to be told from another thread than the one that scores.

    Args:
        name: What the verdict is recorded under.

    Example:
        >>> from robo_reward.frames import Frame
        >>> from robo_reward.task import Task
        >>> import numpy as np
        >>> told = Told("wrist force")
        >>> told.tell(False, env=2)
        >>> frame = Frame.of(np.zeros((8, 8, 3), np.uint8))
        >>> told.verdict(Query(task=Task(instruction="press it"), newest=(frame,), env=2))
        False
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._said: OrderedDict[tuple[int, int, int], bool | None] = OrderedDict()
        self._now: dict[int, bool | None] = {}
        self._lock = threading.Lock()

    def tell(
        self,
        verdict: bool | None,
        *,
        env: int = 0,
        episode: int | None = None,
        step: int | None = None,
    ) -> None:
        """Take a verdict: on one step, or on every query of an environment until the next one.

        Raises:
            ValueError: Only one of episode and step is given.
        """
        if (episode is None) != (step is None):
            raise ValueError("a verdict is on an episode and a step, or on neither")
        with self._lock:
            if episode is None or step is None:
                self._now[env] = verdict
                return
            self._said[env, episode, step] = verdict
            while len(self._said) > REMEMBERED:
                self._said.popitem(last=False)

    def verdict(self, query: Query) -> bool | None:
        """Return what was told of this step, else of its environment, else nothing."""
        with self._lock:
            exact = self._said.get((query.env, query.episode, query.step))
            return self._now.get(query.env) if exact is None else exact


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the checks decided about one query.

    Attributes:
        done: Whether the goal holds.
        by: Name of the check that decided.
    """

    done: bool
    by: str

    @property
    def detail(self) -> str:
        """A sentence for the score."""
        return f"{'done' if self.done else 'not done'} by check {self.by}"


def rule(checks: Sequence[Check], query: Query) -> Ruling | None:
    """Return the decision on a query, ``None`` where no check has an opinion."""
    found: Ruling | None = None
    for check in checks:
        said = check.verdict(query)
        if said is not None and (found is None or (found.done and not said)):
            found = Ruling(bool(said), check.name)
    return found


def find_check(path: str) -> Check:
    """Return the check at ``module:attribute``: a check, or a function of a query.

    Raises:
        ConfigError: There is none.
    """
    module, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"no check {path!r}, which must be module:attribute: {error}") from error
    if hasattr(found, "verdict") and hasattr(found, "name"):
        check: Check = found
        return check
    if not callable(found):
        raise ConfigError(f"check {path!r} is neither a check nor a function of a query")
    return Rule(attribute, found)
