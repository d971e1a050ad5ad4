"""Labels for recordings: every frame of a dataset scored, beside a dataset that stays as it was."""

from .engine import Share, Tally, finish, label_episodes, plan_episodes
from .instructions import Instructions, read_instructions
from .judging import Judge, ModelJudge, SourceJudge
from .options import RelabelOptions
from .run import Run, open_run, record_of

__all__ = [
    "Instructions",
    "Judge",
    "ModelJudge",
    "RelabelOptions",
    "Run",
    "Share",
    "SourceJudge",
    "Tally",
    "finish",
    "label_episodes",
    "open_run",
    "plan_episodes",
    "read_instructions",
    "record_of",
]
