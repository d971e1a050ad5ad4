"""``robo-reward record``: the recorder node, and episodes of a suite on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robo_reward.errors import ConfigError
from robo_reward.nodes.parameters import part_of
from robo_reward.nodes.record import RecordNode, RecordParameters

from .common import Common, Result


@dataclass(frozen=True, kw_only=True)
class Record(Common, RecordParameters):
    """Record cameras, actions and scores, one MCAP file per episode, until told to stop.

    With --suite it records labelled episodes of a simulator instead, failures among them, and ends;
    eval-reward --dataset then scores them, also where that simulator is not installed.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward record --cameras camera/front/frame --out recordings",
        "robo-reward record --cameras tcp://10.0.0.5:5611 --events tcp://10.0.0.6:5621",
        "robo-reward record --suite metaworld --split unseen --episodes 85 --out data/unseen",
    )

    suite: str = ""
    """Record episodes of this suite: tabletop, metaworld or fetch."""
    split: str = "unseen"
    """Of a suite: which episodes."""
    episodes: int = 20
    """Of a suite: how many, tasks in turn; those already in the folder are left as they are."""
    families: tuple[str, ...] = ()
    """Of a suite: tasks to take; all of the split when not given."""
    kinds: tuple[str, ...] = ()
    """Of metaworld and fetch: behaviours in turn, such as expert; a mixture when not given."""
    seed: int = 0
    """Of a suite: number of the set within the split; another one shares no episode."""
    jpeg: int = 0
    """Of a suite: JPEG quality of the frames, 1 to 100; 0 keeps their pixels."""

    def run(self) -> Result:
        """Record; return what was written."""
        if self.suite:
            return self._record_suite()
        node = RecordNode(part_of(RecordParameters, self))
        node.run()
        return {
            "path": str(self.out),
            "episodes": node.episodes,
            "frames": node.frames,
            "error": node.failed,
            "failed": int(bool(node.failed)),
        }

    def _record_suite(self) -> Result:
        from robo_reward.evaluate.suites import open_suite, record_suite

        if not 0 <= self.jpeg <= 100:
            raise ConfigError(f"--jpeg must be 0 to 100, got {self.jpeg}")
        options = {"kinds": self.kinds} if self.kinds else {}
        found = open_suite(
            self.suite,
            split=self.split,
            episodes=self.episodes,
            seed=self.seed,
            families=self.families,
            **options,
        )
        with self.console().bar("record", total=self.episodes, unit="ep") as bar:
            written, frames = record_suite(
                self.out, found, jpeg_quality=self.jpeg or None, on_progress=bar.update_to
            )
        return {
            "path": str(self.out),
            "suite": self.suite,
            "split": self.split,
            "seed": self.seed,
            "episodes": written,
            "frames": frames,
        }
