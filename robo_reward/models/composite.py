"""Several reward models as one: their mean, the worst of them, or a cheap one before a costly one.

``mean``
    each signal is the mean over the members that give it; ``weights`` the same with a weight per
    member, or per member and signal (a member of weight 0 has no say in it).
``worst``
    the most pessimistic answer of each signal: what several rewards all have to be fooled for.
``cascade``
    the first member answers; where its ``uncertainty`` is above ``limit`` the next one is asked,
    about those queries only, and its answer stands, until one is sure or the last has spoken.

``mean``, ``weights`` and ``worst`` give every signal that at least one member gives, and
``uncertainty`` is how far they disagree (``combine.doubt``); a ``cascade`` gives the signals that
all of its members give, so that every row has the same ones. Deltas of a mean or a worst telescope
as those of the members do; of a cascade each is a difference within the member that answered.

Rule-based ``checks`` outrank the members' ``done``, calibrated or not, and every score that they
decided says so in ``detail``. Where no member gives ``done``, it is done when a check says so and
not before. A query that the composite abstains from stays unanswered, whatever a check says.

Members keep their own frames, encode each one once, and look at as much history as they take. The
model id names all of them with their weights. Licence: that of the members.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from robo_reward.errors import ConfigError
from robo_reward.frames import Image
from robo_reward.history import looked_back
from robo_reward.models.base import (
    Capabilities,
    Feature,
    Instants,
    ModelCard,
    RewardModel,
    ScoreArrays,
)
from robo_reward.query import Query
from robo_reward.signals import SIGNALS, Score
from robo_reward.task import Task

from .checks import Check, Ruling, find_check, rule
from .combine import JUDGED, doubt, weighted_mean, worst
from .composite_spec import Blend, Member, read_spec
from .registry import SPECS, load_model

LONGEST_ID = 200
"""Characters of a model id that still go into every header with room to spare."""


class Composite(RewardModel):
    """Asks its members, and makes one answer of theirs.

    Args:
        members: The models, closed with this one; of a cascade the cheapest first.
        blend: How their answers become one.
        checks: Rule-based checks that outrank ``done``.

    Raises:
        ConfigError: The members do not fit together.
    """

    card = ModelCard(
        capabilities=Capabilities(licence="that of its members"),
        weights="composite=FILE.yaml names its members",
    )

    def __init__(
        self,
        members: Sequence[RewardModel],
        *,
        blend: Blend | None = None,
        checks: Sequence[Check] = (),
    ) -> None:
        self.members = tuple(members)
        self.blend = blend or Blend()
        self.checks = tuple(checks)
        self.asked: Counter[str] = Counter()
        """Member → queries that it was asked."""
        self.ruled: Counter[str] = Counter()
        """Check → queries that it decided."""
        self._rulings: list[Ruling | None] = []
        _check(self.members, self.blend)
        self._model_done = any("done" in one.capabilities.signals for one in self.members)
        self._weights = {name: self.blend.of(name, len(self.members)) for name in SIGNALS}
        prompts = [one.prompt_id for one in self.members if one.prompt_id]
        super().__init__(
            name="composite",
            version=self._version(),
            capabilities=self._able(),
            prompt_id=hashlib.blake2b("\n".join(prompts).encode(), digest_size=6).hexdigest()
            if prompts
            else "",
        )

    @classmethod
    def from_spec(cls, checkpoint: str = "", *, device: str = "auto") -> Composite:
        """Load what a file names; see ``composite_spec``.

        Args:
            checkpoint: The file.
            device: Where the members run.

        Raises:
            ConfigError: The file makes no sense.
        """
        if not checkpoint:
            raise ConfigError("a composite is read from a file: composite=FILE.yaml")
        spec = read_spec(Path(checkpoint))
        named = [Member(model=one) if isinstance(one, str) else one for one in spec.members]
        weighed = spec.how == "weights" or any(one.weight != 1.0 for one in named)
        blend = Blend(
            how=spec.how,
            weights=tuple(one.weight for one in named) if weighed else (),
            limit=spec.limit,
        )
        if nested := [one.model for one in named if _is_composite(one.model)]:
            raise ConfigError(f"a composite cannot be a member of one, got {nested[0]!r}")
        checks = [find_check(path) for path in spec.checks]
        members = [
            load_model(one.model, device=device, calibration=one.calibration) for one in named
        ]
        return cls(members, blend=blend, checks=checks)

    def close(self) -> None:
        """Close the members."""
        for member in self.members:
            member.close()

    def answer(
        self, queries: Sequence[Query], *, client: str = "", inference_s: float = float("nan")
    ) -> list[Score]:
        """Score queries and attach identity; a score that a check decided says which one."""
        scores = super().answer(queries, client=client, inference_s=inference_s)
        return [
            replace(score, detail=ruling.detail) if score.ok and ruling else score
            for score, ruling in zip(scores, self._rulings, strict=True)
        ]

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        # The members keep features of their own; a costly one may never be asked.
        return [True] * len(images)

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[Instants],
    ) -> ScoreArrays:
        if self.blend.how == "cascade":
            rows = self._cascaded(queries)
        else:
            rows = self._blended([self._ask(member, queries) for member in self.members])
        if not self._model_done and self.checks:
            rows = replace(rows, done=np.zeros(len(queries), np.float32))
        return rows

    def _judged(self, queries: Sequence[Query]) -> ScoreArrays:
        arrays = super()._judged(queries)
        # After the calibration: a verdict is no probability to be mended.
        self._rulings = [rule(self.checks, query) for query in queries]
        done = arrays.done.copy()
        for row, ruling in enumerate(self._rulings):
            if ruling is not None and row not in arrays.failures:
                done[row] = float(ruling.done)
                self.ruled[ruling.by] += 1
        return replace(arrays, done=done)

    def _ask(self, member: RewardModel, queries: Sequence[Query]) -> ScoreArrays:
        self.asked[member.model_id] += len(queries)
        limit = member.capabilities.history
        if limit < self.capabilities.history:
            queries = [
                replace(query, history=looked_back(query.history, limit=limit)) for query in queries
            ]
        return member._judged(queries)

    def _blended(self, parts: Sequence[ScoreArrays]) -> ScoreArrays:
        none = np.full(len(parts[0]), np.nan, np.float32)
        columns = dict.fromkeys(SIGNALS, none)
        for signal in self.capabilities.signals:
            if signal == "uncertainty":
                columns[signal] = doubt(parts, self._weights)
            elif any(signal in one.capabilities.signals for one in self.members):
                columns[signal] = (
                    worst(parts, signal)
                    if self.blend.how == "worst"
                    else weighted_mean(parts, signal, self._weights[signal])
                )
        return ScoreArrays(**columns, failures=self._failures(parts))

    def _failures(self, parts: Sequence[ScoreArrays]) -> dict[int, str]:
        """A row that one member has no answer to has none: the rest would be another composite."""
        return {
            row: f"{member.name}: {why}"
            for member, part in zip(self.members, parts, strict=True)
            for row, why in part.failures.items()
        }

    def _cascaded(self, queries: Sequence[Query]) -> ScoreArrays:
        columns = {name: np.full(len(queries), np.nan, np.float32) for name in SIGNALS}
        failures: dict[int, str] = {}
        left = list(range(len(queries)))
        for member in self.members:
            if not left:
                break
            said = self._ask(member, [queries[row] for row in left])
            for name in self.capabilities.signals:
                columns[name][left] = getattr(said, name)
            failures = {row: why for row, why in failures.items() if row not in left}
            failures |= {left[at]: f"{member.name}: {why}" for at, why in said.failures.items()}
            # Who has no answer is not sure of it.
            left = [
                row
                for at, row in enumerate(left)
                if at in said.failures or said.uncertainty[at] > self.blend.limit
            ]
        return ScoreArrays(**columns, failures=failures)

    def _version(self) -> str:
        """Name the members with their weights; by a hash alone where that gets too long."""
        named = " + ".join(
            _named(member, weight)
            for member, weight in zip(
                self.members, self.blend.weights or [1.0] * len(self.members), strict=True
            )
        )
        how = self.blend.how + (f" {self.blend.limit:g}" if self.blend.how == "cascade" else "")
        rules = "".join(f" & {check.name}" for check in self.checks)
        said = f"{how}({named}){rules}"
        if len(said) <= LONGEST_ID:
            return said
        digest = hashlib.blake2b(said.encode(), digest_size=6).hexdigest()
        return f"{how}({len(self.members)} members {digest}){rules}"[:LONGEST_ID]

    def _able(self) -> Capabilities:
        able = [one.capabilities for one in self.members]
        return Capabilities(
            signals=self._signals(),
            max_views=min(one.max_views for one in able),
            history=max(one.history for one in able),
            goal_image=any(one.goal_image for one in able),
            demo=any(one.demo for one in able),
            licence=" and ".join(dict.fromkeys(one.licence for one in able)),
            memory_mb=sum(one.memory_mb for one in able),
            parameters=sum(one.parameters for one in able),
        )

    def _signals(self) -> tuple[str, ...]:
        given = {name: self._givers(name) for name in SIGNALS}
        if self.blend.how == "cascade":
            found = {name for name in SIGNALS if given[name] == len(self.members)}
        else:
            found = {name for name in SIGNALS if given[name]}
            if any(given[name] > 1 for name in JUDGED):
                found.add("uncertainty")
        if self.blend.how == "worst" and not self._telescopes():
            found.discard("progress_delta")
        if self.checks:
            found.add("done")
        return tuple(name for name in SIGNALS if name in found)

    def _givers(self, signal: str) -> int:
        """Number of members that have a say in a signal."""
        return sum(
            signal in one.capabilities.signals and weight > 0
            for one, weight in zip(self.members, self._weights[signal], strict=True)
        )

    def _telescopes(self) -> bool:
        """Whether every member that gives progress also says what it was before."""
        return all(
            "progress_delta" in one.capabilities.signals
            for one in self.members
            if "progress" in one.capabilities.signals
        )


def _check(members: Sequence[RewardModel], blend: Blend) -> None:
    problems = []
    if not members:
        problems.append("a composite needs at least one member")
    if blend.weights and len(blend.weights) != len(members):
        problems.append(f"{len(blend.weights)} weights for {len(members)} members")
    if blend.how == "weights" and not blend.weights:
        problems.append("how: weights without any weight")
    if blend.how == "cascade":
        silent = [one.name for one in members[:-1] if "uncertainty" not in one.capabilities.signals]
        problems += [f"{name} gives no uncertainty to go on from" for name in silent]
    if problems:
        raise ConfigError("; ".join(problems))


def _named(member: RewardModel, weight: object) -> str:
    name = member.model_id
    if member.calibration_id != "none":
        name += f"/{member.calibration_id}"
    if weight == 1.0:
        return name
    if isinstance(weight, dict):
        return f"{name}*{','.join(f'{key}:{value:g}' for key, value in sorted(weight.items()))}"
    return f"{name}*{weight:g}"


def _is_composite(name: str) -> bool:
    return name.partition("=")[0] == "composite" or name.endswith(SPECS)
