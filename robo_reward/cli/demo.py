"""``robo-reward demo``: from a few demonstrations to a better policy, on a learned reward."""

from __future__ import annotations

import contextlib
import logging
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING, ClassVar, Literal

from robo_reward.errors import ConfigError, require

from .common import Result, Saving
from .output import environment

if TYPE_CHECKING:
    from robo_reward.policies.presets import Preset

NEEDED = (
    ("mujoco", "sim"),
    ("torch", "train"),
    ("stable_baselines3", "rl"),
    ("yaml", "camera"),
    ("matplotlib", "viz"),
    ("PIL", "viz"),
)
"""Packages and the extra each comes with: what is missing shows at the start, not in the middle."""


@dataclass(frozen=True, kw_only=True)
class Demo(Saving):
    """Clone a policy from a few demonstrations and improve it on the model's reward alone.

    A camera node, a reward node and the learner run as three processes on this machine. Writes
    demo.gif, demo.png, report.html and the policies; true success is measured before and after
    and never shown to the learner. Takes up to 12 minutes on 2 cores, with --quick one.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward demo",
        "robo-reward demo --quick",
        "robo-reward demo --task push --seed 1",
    )
    always_json: ClassVar[bool] = True

    task: Literal["pick-place", "push"] = "pick-place"
    """What the robot learns."""
    quick: bool = False
    """Show in a minute that everything runs; proves nothing."""
    model: str = "compact"
    """Name, folder or hub id of the reward model."""
    observation: Literal["state", "features"] = "state"
    """What the policy sees: the simulator's state, or proprioception and visual features."""
    iterations: int = 0
    """How many, instead of the 30 of the recipe."""
    seed: int = 0
    """Seed of demonstrations, networks and exploration."""

    def run(self) -> Result:
        """Run the demo; return its summary."""
        for package, extra in NEEDED:
            require(package, extra=extra)
        from robo_reward.policies.demo.run import DemoOptions, run_demo

        recipe = self._recipe()
        name = f"{self.task}{'_quick' if self.quick else ''}"
        console = self.console()
        with _stopped_by_sigterm(), self.open_output(name) as out:
            if not self.verbose:
                _keep_stderr_for_the_bar()
            options = DemoOptions(
                preset=recipe,
                model=self.model,
                seed=self.seed,
                quick=self.quick,
                command=self._command(),
                environment=environment(),
            )
            with console.bar("demo", total=recipe.iterations, unit="it") as bar:
                summary = run_demo(
                    options,
                    out=out.path,
                    on_progress=lambda done, note: bar.update_to(done, note=note),
                )
            out.write_json("metrics.json", summary)
        before, after = summary["success_before"], summary["success_after"]
        console.say(f"true success {before:.0%} -> {after:.0%}")
        for key in ("gif", "plot", "report"):
            console.say(f"{key:<7} {summary[key]}")
        if self.quick:
            console.say("quick: this shows that everything runs and proves nothing else")
        return summary

    def _recipe(self) -> Preset:
        from robo_reward.policies.demo.run import quick
        from robo_reward.policies.presets import preset

        if self.iterations < 0:
            raise ConfigError(f"--iterations must be >= 0, got {self.iterations}")
        recipe = preset(self.task if self.observation == "state" else f"{self.task}-features")
        if self.quick:
            recipe = quick(recipe)
        return replace(recipe, iterations=self.iterations) if self.iterations else recipe

    def _command(self) -> str:
        words = ["robo-reward", "demo", "--task", self.task, "--model", self.model]
        words += ["--observation", self.observation, "--seed", str(self.seed)]
        words += ["--quick"] if self.quick else []
        words += ["--iterations", str(self.iterations)] if self.iterations else []
        return shlex.join(words)


def _keep_stderr_for_the_bar() -> None:
    """Leave what is merely worth knowing to log.txt: one progress bar is all there is to see."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.setLevel(logging.ERROR)


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Make SIGTERM end the run as Ctrl-C does: nodes are ended and files are closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
