"""What an improvement leaves behind: one row per iteration, as CSV and in TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .rollout import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationRow:
    """One iteration.

    Attributes:
        iteration: From 1; 0 is the base policy.
        steps: Environment steps of the learner so far.
        episodes: Episodes of the learner so far.
        model_return: Mean return of the iteration's episodes under the reward that was learned
            from, undiscounted.
        model_progress: Mean progress that the model saw at the end of these episodes.
        model_done_rate: Share of these episodes that the owner of done ended as done.
        true_success: Success rate of the evaluator, in an environment of its own; NaN where it
            did not look. Never shown to the learner.
        seconds: Wall-clock time since the start of learning, evaluations included.
    """

    iteration: int
    steps: int
    episodes: int
    model_return: float
    model_progress: float
    model_done_rate: float
    true_success: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """The result of ``improve``.

    Attributes:
        before: Evaluation of the base policy.
        after: Evaluation of the last policy; there is no selection.
        rows: One per iteration.
        done_owner: Who ended episodes.
        reward_model: Identity of the model that gave the reward.
        seconds: Wall-clock time of everything, both evaluations included.
        policy_before: File of the base policy, ``None`` where nothing was saved.
        policy_after: File of the last policy.
    """

    before: Evaluation
    after: Evaluation
    rows: tuple[IterationRow, ...]
    done_owner: str
    reward_model: str
    seconds: float
    policy_before: Path | None = None
    policy_after: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "success_before": self.before.rate,
            "success_after": self.after.rate,
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "iterations": len(self.rows),
            "steps": self.rows[-1].steps if self.rows else 0,
            "episodes": self.rows[-1].episodes if self.rows else 0,
            "done_owner": self.done_owner,
            "reward_model": self.reward_model,
            "seconds": self.seconds,
            "policy_before": str(self.policy_before) if self.policy_before else None,
            "policy_after": str(self.policy_after) if self.policy_after else None,
        }


def rows_to_csv(rows: Sequence[IterationRow]) -> str:
    """Return the rows as CSV with a header."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=[one.name for one in fields(IterationRow)])
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()
