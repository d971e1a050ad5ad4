"""Labels for recordings: every frame of a dataset scored, beside a dataset that stays as it was."""

from .engine import Share, Tally, finish, label_episodes, plan_episodes
from .instructions import Instructions, read_instructions
from .judging import Judge, JudgeConfig, ModelJudge, SourceJudge, open_judge
from .options import RelabelOptions
from .run import Run, open_run, record_of

__all__ = [
    "Instructions",
    "Judge",
    "JudgeConfig",
    "ModelJudge",
    "RelabelOptions",
    "Run",
    "Share",
    "SourceJudge",
    "Tally",
    "finish",
    "label_episodes",
    "open_judge",
    "open_run",
    "plan_episodes",
    "read_instructions",
    "record_of",
]
