"""Reports, film strips, overlays and plots: what a person looks at."""

from .html_page import Figure, Report, Section, write_report
from .overlay_film import FILM_FRAMES, OverlayScores, overlay, shrunk
from .training import TrainingRow, plot_training

__all__ = [
    "FILM_FRAMES",
    "Figure",
    "OverlayScores",
    "Report",
    "Section",
    "TrainingRow",
    "overlay",
    "shrunk",
    "plot_training",
    "write_report",
]
