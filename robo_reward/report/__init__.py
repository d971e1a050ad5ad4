"""Reports, film strips, overlays and plots: what a person looks at."""

from .html_page import Figure, Report, Section, write_report
from .overlay_film import OverlayScores, overlay
from .training import TrainingRow, plot_training

__all__ = [
    "Figure",
    "OverlayScores",
    "Report",
    "Section",
    "TrainingRow",
    "overlay",
    "plot_training",
    "write_report",
]
