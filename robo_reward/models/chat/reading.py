"""The probability of each possible answer, out of what a server tells of one that it gave.

At every place of its answer a server names the likeliest tokens. An answer that leaves what was
said at some place has the probability of the way to there times that of the token with which it
leaves; probabilities of several ways to spell one answer add up. From where no other answer begins
like it its rest counts as certain, which local weights would weigh too. Answers that leave with the
same token stay together, a *group*: their shares within it are not known. Nothing here is guessed:
a group is asked further, or has no answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from robo_reward.models.vlm.readings import Unanswered, Vector

WORTH = 0.01
"""Groups below this share of the likeliest answer are left alone."""
_JUNK = " \t\n*_`\"'"
_DIGITS = re.compile(r"\d\d")
_GOES_ON = re.compile(r"\w|[.,]\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One token of an answer.

    Attributes:
        said: Its text.
        chances: Text → log-probability of the likeliest tokens here, ``said`` among them.
    """

    said: str
    chances: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server answered.

    Attributes:
        text: The answer.
        places: Its tokens, those of thoughts before it among them; ``None`` where the server tells
            no log-probabilities.
        finished: Whether the model ended it itself.
    """

    text: str
    places: tuple[Place, ...] | None = None
    finished: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The answers there are.

    Attributes:
        answers: As they are spelled.
        exact: Whether blanks, quotes and capitals count; they do where the beginning of the
            answer was given.
    """

    answers: tuple[str, ...]
    exact: bool

    def fits(self, text: str, *, ended: bool = False) -> list[int]:
        """Return the answers that text is, or may become unless it has ended."""
        held, answers = text, self.answers
        if not self.exact:
            held, answers = text.lstrip(_JUNK).casefold(), tuple(a.casefold() for a in answers)
        found = [
            index
            for index, answer in enumerate(answers)
            if (answer == held if ended else answer.startswith(held))
        ]
        over = [
            index
            for index, answer in enumerate(answers)
            if held.startswith(answer) and held != answer and not _GOES_ON.match(held[len(answer):])
        ]  # fmt: skip
        return found + sorted(over, key=lambda index: len(answers[index]))[-1:]


@dataclass(slots=True, eq=False)
class Found:
    """What is known of the answers.

    Attributes:
        form: The answers.
        chances: Answer → log-probability.
        groups: Beginning that several answers share → log-probability of it.
    """

    form: Form
    chances: dict[int, float] = field(default_factory=dict)
    groups: dict[str, float] = field(default_factory=dict)

    def walk(self, places: Sequence[Place], *, ended: bool, path: str, chance: float) -> None:
        """Go along what was said; whatever leaves it on the way is added.

        Args:
            places: From where the answer, or the rest of it, begins.
            ended: Whether the model ended behind the last of them.
            path: What was said of the answer before.
            chance: Log-probability of that.
        """
        for place in places:
            # Then numbers are whole tokens: what ends in a digit is complete.
            whole = any(_DIGITS.search(text) for text in place.chances)
            for text, value in place.chances.items():
                if text != place.said:
                    complete = whole and self.form.fits(path + text, ended=True)
                    self._add(path + text, chance + value, ended=bool(complete))
            path, chance = path + place.said, chance + place.chances[place.said]
            if len(self.form.fits(path)) <= 1:
                ended = False  # nothing that follows decides anything
                break
        self._add(path, chance, ended=ended)

    def next_group(self) -> tuple[str, float] | None:
        """Take the likeliest group that is worth asking."""
        known = [*self.chances.values(), *self.groups.values()]
        if not self.groups:
            return None
        text = max(self.groups, key=lambda group: self.groups[group])
        if self.groups[text] < max(known) + math.log(WORTH):
            return None
        return text, self.groups.pop(text)

    def settle(self, *, floor: float) -> Vector:
        """Return the log-probability of each answer, ``(answers,)``.

        Args:
            floor: Of those that were not seen, or the least that was, whichever is less.

        Raises:
            Unanswered: None was seen.
        """
        if not self.chances:
            raise Unanswered(f"the answer is none of {told(self.form.answers)}")
        least = min(floor, *self.chances.values())
        count = len(self.form.answers)
        return np.array([self.chances.get(index, least) for index in range(count)], np.float64)

    def _add(self, text: str, chance: float, *, ended: bool = False) -> None:
        fits = self.form.fits(text, ended=ended)
        if len(fits) == 1:
            before = self.chances.get(fits[0], -math.inf)
            self.chances[fits[0]] = float(np.logaddexp(before, chance))
        elif fits:
            before = self.groups.get(text, -math.inf)
            self.groups[text] = float(np.logaddexp(before, chance))


def behind(reply: Reply, opening: str, form: Form) -> tuple[list[Place], str]:
    """Find where the answer begins in a reply that is all the model's own.

    That is behind the last place where it begins as the prompt asks for, blanks aside; without any,
    a reply that begins with an answer is one.

    Returns:
        The places from there on, the first one cut where it begins earlier; and the text.

    Raises:
        Unanswered: There is no such place.
    """
    start = _start(reply.text, opening)
    if not form.fits(reply.text[start:], ended=reply.finished):
        raise Unanswered(f"the answer {reply.text[:80]!r} is none of {told(form.answers)}")
    places = reply.places or ()
    whole = "".join(place.said for place in places)
    # Thoughts and signs around the answer are tokens, but are not in its text.
    at = start + max(0, whole.rfind(reply.text) if reply.text else 0)
    return _cut(places, at), reply.text[start:]


def frequencies(texts: Sequence[str], form: Form, *, floor: float) -> Vector:
    """Return the logarithm of how often each answer was drawn, ``(answers,)``.

    Args:
        texts: Draws, from where the answer begins.
        form: The answers.
        floor: Of those that were never drawn.

    Raises:
        Unanswered: More than half of the draws are no answer.
    """
    found = [form.fits(text, ended=True) for text in texts]
    good = [fits[0] for fits in found if len(fits) == 1]
    if 2 * len(good) < len(texts) or not good:
        bad = next(text for text, fits in zip(texts, found, strict=True) if len(fits) != 1)
        raise Unanswered(
            f"{len(texts) - len(good)} of {len(texts)} answers, {bad[:80]!r} say, are none of "
            + told(form.answers)
        )
    counts = np.bincount(good, minlength=len(form.answers)) / len(good)
    made: Vector = np.where(counts > 0, np.log(np.maximum(counts, 1e-300)), floor)
    return made


def told(answers: Sequence[str]) -> str:
    """Return answers as a message names them."""
    if len(answers) <= 6:
        return ", ".join(answers)
    return f"{answers[0]}, {answers[1]} … {answers[-1]}"


def _start(text: str, opening: str) -> int:
    words = [re.escape(word) for word in opening.split()]
    if not words:
        return 0
    # No blank at the end: it belongs to the answer's first token.
    found = list(re.finditer(r"\s*".join(words), text, re.IGNORECASE))
    return found[-1].end() if found else 0


def _cut(places: Sequence[Place], at: int) -> list[Place]:
    """Return the places behind ``at`` characters."""
    passed = 0
    for index, place in enumerate(places):
        if passed + len(place.said) > at:
            before = place.said[: at - passed]
            if not before:
                return list(places[index:])
            kept = {
                text[len(before) :]: chance
                for text, chance in place.chances.items()
                if text.startswith(before)
            }
            first = Place(said=place.said[len(before) :], chances=kept)
            return [first, *places[index + 1 :]]
        passed += len(place.said)
    return []
