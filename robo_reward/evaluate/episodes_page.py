"""Best and worst episodes of a model: film strips above the curves."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from robo_reward.report.charts import Curves, episode_curves, legend
from robo_reward.report.filmstrip import strip_html
from robo_reward.report.html_page import Section, grid, number

from .harness import EpisodeResult, ModelResult

SHOWN = 10
"""Episodes shown at either end."""


def episodes_section(model: ModelResult, suffix: str) -> Section:
    """Return the episodes with the largest and the smallest fault."""
    ranked = sorted(model.episodes, key=lambda e: -e.fault if math.isfinite(e.fault) else -math.inf)
    shown = min(SHOWN, (len(ranked) + 1) // 2)
    worst, best = ranked[:shown], ranked[len(ranked) - shown :][::-1]
    key = legend(
        {
            "progress": "progress",
            "truth": "true progress",
            "done": "done",
            "wrong": "progress under a false instruction",
        }
    )
    body = (
        key
        + f"<h3>Most wrong{escape(suffix)}</h3>"
        + grid([_episode(e) for e in worst])
        + f"<h3 style='margin-top:22px'>Most right{escape(suffix)}</h3>"
        + grid([_episode(e) for e in best])
    )
    note = (
        "Sorted by mean |progress - true progress| plus |final done - success|. "
        "Each picture stands above its frame."
    )
    return Section(title=f"Episodes{suffix}", body=body, note=note)


def _episode(episode: EpisodeResult) -> str:
    frames = np.arange(len(episode.scores.forward))
    curves = Curves(
        progress=episode.scores.forward.progress,
        done=episode.scores.forward.done,
        truth=episode.progress,
        wrong={text: (frames, said.progress) for text, said in episode.scores.wrong.items()},
        fired=episode.fired,
    )
    outcome = {True: "success", False: "failure", None: "unknown"}[episode.success]
    colour = {True: "done", False: "wrong", None: "truth"}[episode.success]
    words = [episode.id, episode.family, episode.kind, f"fault {number(episode.fault)}"]
    return (
        f'<div class="episode"><h3><span>{escape(episode.instruction)}</span>'
        f'<span class="tag {colour}">{outcome}</span></h3>'
        f"<p>{escape(' · '.join(words))}</p>"
        f"{strip_html(episode.strip, frames=episode.places.tolist())}"
        f"{episode_curves(curves)}</div>"
    )
