"""The demo from start to end: nodes, base policy, iterations, film, plot, report."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch as th

from robo_reward.envs import VisualReward
from robo_reward.models import load_model

from ..improve import improve, make_env, reward_env
from ..learners import load_policy
from ..observations import Encoder
from ..presets import Preset
from ..records import Improvement, IterationRow
from .film import Film, Photographer, ScoreLog, film
from .page import Story, draw_plot, write_page
from .processes import CAMERA, DEADLINE_S, PATIENCE_S, DemoNodes, NodesConfig

Progress = Callable[[int, str], None]
"""Called with the number of finished iterations and a line about the present."""

FILM_SEED = 3_000_000
"""First scene of the film; neither the learner nor the evaluator has seen it."""
TAKES = 5
OBSERVED: dict[str, str] = {
    "state": "state (simulator)",
    "features": "proprioception + frozen visual features",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the demo runs.

    Attributes:
        preset: The recipe.
        model: Name, folder or hub id of the reward model.
        seed: Of demonstrations, networks and exploration.
        quick: Whether the preset was made small, so that the numbers prove nothing.
        command: The command line that gives the same run again.
        environment: Machine and versions, for the report.
    """

    preset: Preset
    model: str = "compact"
    seed: int = 0
    quick: bool = False
    command: str = ""
    environment: Mapping[str, object] = field(default_factory=dict)


def quick(preset: Preset) -> Preset:
    """Return a recipe of the same kind that takes about a minute."""
    return replace(
        preset,
        clone=replace(preset.clone, updates=min(preset.clone.updates, 500)),
        iterations=6,
        episodes=6,
        updates=150,
        eval_episodes=20,
        watch_episodes=5,
    )


def run_demo(options: DemoOptions, *, out: Path, on_progress: Progress) -> dict[str, Any]:
    """Run the demo into a folder; returns its summary, plain values.

    Args:
        options: What to run.
        out: Folder; gets the film, the plot, the report, policies, rows and the nodes' log.
        on_progress: Told what is going on.

    Raises:
        DeviceError: Nothing can be rendered on this machine.
        PeerUnreachable: A node keeps failing.
        RewardLost: Too many scores are missing.
    """
    # One thread each: three processes share two cores, and these networks are small.
    os.environ["OMP_NUM_THREADS"] = "1"
    th.set_num_threads(1)
    start, cpu_s = time.monotonic(), _cpu_s()
    on_progress(0, "starting the camera node and the reward node")
    photographer = Photographer(options.preset.env_id)  # fails now, not after the learning
    nodes = NodesConfig(model=options.model, scene=options.preset.env_id)
    with contextlib.closing(photographer), DemoNodes(nodes, log=out / "nodes.log") as running:
        on_progress(0, "base policy: demonstrations, cloning, evaluation")
        log = ScoreLog()
        encoder = _encoder(options)
        with contextlib.closing(_learner_env(options, encoder, running, log)) as env:
            told = _Teller(env, running, on_progress, total=options.preset.iterations)
            result = _learn(options, encoder, env, told, out=out)
            on_progress(len(result.rows), "filming the final policy")
            shot = film(
                load_policy(str(result.policy_after), options.preset.algorithm),
                env,
                log=log,
                photographer=photographer,
                seed=FILM_SEED + 100 * options.seed,
                takes=TAKES,
            )
            ran = _Ran(
                result=result,
                shot=shot,
                counts=env.stats(),
                restarts=running.restarts,
                seconds=time.monotonic() - start,
            )
    summary = _show(options, ran, out=out)
    return {**summary, "cpu_seconds": round(_cpu_s() - cpu_s, 1)}


def _cpu_s() -> float:
    """Return the processor time of this process and its ended children, seconds."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ran:
    """What is known when the nodes have been ended."""

    result: Improvement
    shot: Film
    counts: Mapping[str, int]
    restarts: int
    seconds: float


class _Teller:
    """Says how the learning goes, and looks after the nodes meanwhile."""

    def __init__(
        self, env: VisualReward, nodes: DemoNodes, on_progress: Progress, *, total: int
    ) -> None:
        self._env = env
        self._nodes = nodes
        self._on_progress = on_progress
        self._total = total
        self._seen = (0, time.monotonic())

    def __call__(self, row: IterationRow) -> None:
        self._nodes.check()
        if row.iteration == 0:
            self._seen = (self._env.stats().get("ok", 0), time.monotonic())
            self._on_progress(0, "learning")
            return
        ok, now = self._env.stats().get("ok", 0), time.monotonic()
        rate = (ok - self._seen[0]) / max(1e-9, now - self._seen[1])
        self._seen = (ok, now)
        note = f"return {row.model_return:.1f}  done {row.model_done_rate:.0%}  {rate:.0f} scores/s"
        if row.iteration == self._total:
            note += "  evaluating"
        if self._nodes.restarts:
            note += f"  nodes restarted {self._nodes.restarts}"
        self._on_progress(row.iteration, note)


def _encoder(options: DemoOptions) -> Encoder | None:
    if options.preset.observes != "features":
        return None
    model: Any = load_model(options.model, device="cpu")
    encoder: Encoder = model.visual_features
    return encoder


def _learner_env(
    options: DemoOptions, encoder: Encoder | None, nodes: DemoNodes, log: ScoreLog
) -> VisualReward:
    def look(*_: object) -> None:
        nodes.check()

    bare = make_env(options.preset, encoder=encoder)
    return reward_env(
        bare,
        nodes.source,
        options.preset,
        camera_stream=(CAMERA,),
        scene=nodes.publisher,
        listeners=(log, look),
        deadline_s=DEADLINE_S,
        patience_s=PATIENCE_S,
    )


def _learn(
    options: DemoOptions,
    encoder: Encoder | None,
    env: VisualReward,
    told: _Teller,
    *,
    out: Path,
) -> Improvement:
    bare = make_env(options.preset, encoder=encoder)
    try:
        return improve(env, bare, options.preset, seed=options.seed, on_iteration=told, out=out)
    finally:
        bare.close()


def _show(options: DemoOptions, ran: _Ran, *, out: Path) -> dict[str, Any]:
    result, shot, counts = ran.result, ran.shot, ran.counts
    gif = shot.write(out / "demo.gif")
    plot = draw_plot(out / "demo.png", result, seed=options.seed)
    notes = _notes(options, ran)
    report = write_page(
        out / "report.html",
        Story(
            result=result,
            task=shot.instruction,
            seed=options.seed,
            watched=options.preset.watch_episodes,
            seconds=ran.seconds,
            gif=gif,
            film_note=_film_note(shot),
            plot=plot,
            notes=notes,
            counts={**counts, "node restarts": ran.restarts},
            command=options.command,
            config=asdict(options.preset),
            environment=options.environment,
        ),
    )
    return {
        "success_before": result.before.rate,
        "success_after": result.after.rate,
        "iterations": len(result.rows),
        "seconds": round(ran.seconds, 1),
        "done_owner": result.done_owner,
        "report": str(report),
        "gif": str(gif),
        "plot": str(plot),
        "path": str(out),
        "task": shot.instruction,
        "seed": options.seed,
        "observation": OBSERVED[options.preset.observes],
        "reward_model": result.reward_model,
        "quick": options.quick,
        "before": result.before.as_dict(),
        "after": result.after.as_dict(),
        "learner_episodes": result.rows[-1].episodes if result.rows else 0,
        "scores": dict(counts),
        "node_restarts": ran.restarts,
        "machine": {key: options.environment.get(key) for key in ("platform", "cores", "python")},
        "notes": notes,
    }


def _film_note(shot: Film) -> str:
    words = [
        "The model calls it done" if shot.done else f"None of {TAKES} episodes was called done"
    ]
    agreed = shot.done == shot.succeeded
    words.append("the simulator agrees." if agreed else "the simulator does not agree.")
    which = (
        f" The first of at most {TAKES} episodes that the model called done." if shot.done else ""
    )
    return f"{'; '.join(words)}{which} Drawn larger for people: the model saw 96 × 96 pixels."


def _notes(options: DemoOptions, ran: _Ran) -> list[str]:
    result, counts = ran.result, ran.counts
    notes = [
        f"Reward and the end of episodes come from {result.reward_model} alone, which sees camera "
        "frames in a process of its own. No ground truth in reward, done, selection or stopping: "
        "the last policy is the result.",
        "True success is the simulator's own check, holding for 3 steps in a row, in an "
        f"environment of its own; the same {result.after.episodes} scenes before and after. The "
        "learner never sees it.",
        f"The policy observes: {OBSERVED[options.preset.observes]}.",
        f"{options.preset.demos.episodes} demonstrations by a scripted expert, which knows the "
        "scene as a person who demonstrates does.",
        "One sentence; where things lie and where the arm starts vary. The reward model was "
        "trained on this simulator, so this says nothing about your robot.",
        "One seed. More of them, between sparse-only and oracle reward, are what "
        "tests/benchmarks/rl_loop.py is for.",
    ]
    if options.preset.observes == "state":
        notes[2] += " It knows where things are; a robot would have to find that out."
    if options.quick:
        notes.insert(0, "QUICK: too short to learn anything. It shows that all runs, no more.")
    if counts.get("dropped", 0) or ran.restarts:
        notes.append(
            f"{counts.get('dropped', 0)} transitions had no score and were left out; nodes were "
            f"started again {ran.restarts} times."
        )
    return notes
