"""Open-loop evaluation of reward models: metrics, harness, suites, report."""

from robo_reward.report.bootstrap import Estimate

from .harness import EpisodeResult, EvalResult, ModelResult, evaluate
from .scoring import EpisodeScores, EvalOptions
from .summary import HEADLINE, METRICS, Metric

__all__ = [
    "HEADLINE",
    "METRICS",
    "EpisodeResult",
    "EpisodeScores",
    "Estimate",
    "EvalOptions",
    "EvalResult",
    "Metric",
    "ModelResult",
    "evaluate",
]
