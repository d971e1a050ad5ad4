"""Verdicts: the shortcuts that a model takes, named from what it was seen to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .sanity import MAX_OPENED, ClipResult

NOTHING = 0.1
"""A difference of progress below this is none: what was changed was not noticed."""
BACKWARDS = -0.3
"""VROC at or below this: progress rises while the recording runs backwards."""
UNCHANGED = 0.02
"""A curve that moves by less than this on black pictures does not come from pictures."""
DRIFT = 0.5
"""Spearman with time, while the picture stands still, from which on progress counts frames."""
SHAKEN = 0.15
"""Spread over wordings above this: the sentence decides, not what it means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a verdict is made from.

    Attributes:
        figures: Metric → value over all episodes; NaN where unknown.
        clips: Sanity clip → result; empty where none could be made.
        constant: Share of the episodes with one value of progress throughout.
    """

    figures: Mapping[str, float]
    clips: Mapping[str, ClipResult]
    constant: float

    def figure(self, name: str) -> float:
        """Return a metric, NaN where it is unknown."""
        return self.figures.get(name, math.nan)

    def clip(self, name: str) -> ClipResult:
        """Return the result of a clip, all NaN where it was not asked."""
        return self.clips.get(name, NOT_ASKED)


NOT_ASKED = ClipResult(
    value=math.nan,
    changed=math.nan,
    trend=math.nan,
    limit=math.nan,
    at_least=True,
    episodes=0,
    opened=math.nan,
)


def verdicts(evidence: Evidence) -> dict[str, str]:
    """Return verdict → why, for every shortcut that shows; empty for a sound model.

    Comparisons with NaN are false, so that nothing is said of what was not measured.
    """
    found = {name: rule(evidence) for name, rule in RULES.items()}
    return {name: why for name, why in found.items() if why}


def _scores_time(e: Evidence) -> str:
    frozen, vroc = e.clip("frozen"), e.figure("vroc")
    if frozen.holds is False and frozen.trend >= DRIFT:
        return f"progress moves by {frozen.value:.2f} while the picture stands still"
    if vroc <= BACKWARDS:
        return f"progress rises on clips that run backwards (VROC {vroc:.2f})"
    return ""


def _ignores_language(e: Evidence) -> str:
    # Clips and figures ask the same of few and of all episodes: whatever is known must agree.
    drops = [
        e.figure("mismatch_drop"),
        e.figure("diagonal_margin"),
        e.clip("wrong_instruction").value,
        e.clip("other_scene").value,
    ]
    known = [drop for drop in drops if not math.isnan(drop)]
    if not known or max(known) >= NOTHING:
        return ""
    return f"a false instruction costs it at most {max(known):.2f} of final progress"


def _blind(e: Evidence) -> str:
    changed = e.clip("black").changed
    return f"black pictures move its progress by {changed:.2f}" if changed < UNCHANGED else ""


def _constant(e: Evidence) -> str:
    return "one value of progress throughout, in every episode" if e.constant == 1.0 else ""


def _false_done(e: Evidence) -> str:
    opened = {name: r.opened for name, r in e.clips.items() if r.opened > MAX_OPENED}
    shares = ", ".join(f"{name} {share:.0%}" for name, share in opened.items())
    return f"the gate opens where the goal never holds: {shares}" if opened else ""


def _hangs_on_wording(e: Evidence) -> str:
    spread = e.figure("paraphrase_spread")
    return f"other words for the same goal move it by {spread:.2f}" if spread > SHAKEN else ""


RULES: dict[str, Callable[[Evidence], str]] = {
    "scores time": _scores_time,
    "ignores language": _ignores_language,
    "blind": _blind,
    "constant": _constant,
    "false done": _false_done,
    "hangs on wording": _hangs_on_wording,
}
"""Verdict → rule that says why it holds, or nothing."""
