"""Base of models that ask a vision-language backbone: a backend is a prompt and a reading."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from robo_reward.errors import ConfigError, InstructionError, require
from robo_reward.frames import Frame, Image
from robo_reward.models.base import (
    Feature,
    Instants,
    ModelCard,
    RewardModel,
    ScoreArrays,
)
from robo_reward.models.chat.options import EndpointOptions, address_of, split_options
from robo_reward.query import Query
from robo_reward.signals import SIGNALS
from robo_reward.task import Task

from .checkpoint import fetch, fingerprint
from .families import FAMILIES
from .options import VlmOptions, read_options
from .passage import Passage, Picture
from .prompt import Filling, Prompt, read_prompt, shipped
from .readings import Unanswered, Vector, softmax

if TYPE_CHECKING:
    from robo_reward.models.chat.spending import Spent

    from .instrument import Instrument

VALUES_KEPT = 65536
_NOT_IN_ID = {
    *("checkpoint", "prompt", "dtype", "attention", "compile", "batch", "reuse"),
    *("trust_remote_code", "cached_frames", "offline"),
}
"""Options that do not change what a model says, or that have an identity of their own."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Case:
    """A query with everything seen.

    Attributes:
        query: As it was asked.
        clip: Earlier frames and the newest one of the first camera, oldest first.
        before: The same up to the reference; ``clip`` itself where there is none.
        newest: The newest frame of each camera.
        reference: The reference frame of each camera; the newest where there is none.
        start: The frames of the episode's first instant, one per camera; the reference where there
            is no history.
        goal: Of the task.
        demo: Of the task.
    """

    query: Query
    clip: tuple[Picture, ...]
    before: tuple[Picture, ...]
    newest: tuple[Picture, ...]
    reference: tuple[Picture, ...]
    start: tuple[Picture, ...]
    goal: Picture | None = None
    demo: tuple[Picture, ...] = ()

    @property
    def text(self) -> str:
        """What the robot should do."""
        return self.query.task.text


class GenerativeModel(RewardModel):
    """Base class; a subclass says which prompt it fills with what and how it reads the answer.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        **options: Fields of ``Options``, as values or as their text.

    Raises:
        ConfigError: An option or a prompt makes no sense, or the checkpoint is of another kind.
        MissingDependency: Weights or a package are not there.
        PeerUnreachable: ``checkpoint`` is the address of a server, and nobody answers.
        AccessDenied: It does not take the key.
    """

    card: ClassVar[ModelCard]
    named: ClassVar[str]
    """Name in the registry."""
    prompts: ClassVar[Mapping[str, tuple[str, Collection[str], Collection[str]]]]
    """Use → shipped prompt, placeholders it needs, placeholders it may have. The use ``prompt`` is
    what the option of that name replaces, ``X_prompt`` that of ``X_prompt``."""
    kinds: ClassVar[Collection[str]] = tuple(FAMILIES)
    """Values of ``model_type`` that it runs on."""
    stands_for: ClassVar[Mapping[str, str]] = {}
    """``model_type`` that transformers does not know → the one it is at heart."""
    renamed: ClassVar[Mapping[str, str]] = {}
    """Pattern of names in the weight files → names in the backbone; see ``loading.load``."""
    signs: ClassVar[Sequence[str]] = ()
    """Tokens that its weights know and a tokenizer may lack; see ``loading.load``."""
    by_answers: ClassVar[bool] = True
    """Whether it reads answers, which a server can give; hidden states it cannot."""
    by_shares: ClassVar[bool] = True
    """Whether shares of drawn answers will do where there are no log-probabilities."""
    Options: ClassVar[type[VlmOptions]] = VlmOptions

    def __init__(self, *, device: str = "auto", **options: Any) -> None:
        address = address_of(str(options.get("checkpoint", "")))
        self.endpoint: EndpointOptions | None = None
        if address:
            self.endpoint, options = self._endpoint_options(options)
        self.options = read_options(self.Options, options, model=self.named)
        if self.options.prompt and "prompt" not in self.prompts:
            names = ", ".join(f"{use}=FILE" for use in self.prompts)
            raise ConfigError(f"{self.named} has several prompts; replace one: {names}")
        self.texts = {use: self._prompt(use) for use in self.prompts}
        self.backbone: Instrument = self._open(address, device=device)
        self.folder = self.backbone.checkpoint.folder
        self._values: OrderedDict[tuple[str, ...], tuple[float, ...]] = OrderedDict()
        super().__init__(
            name=self.named,
            version=self._version(),
            capabilities=replace(
                self.card.capabilities,
                history=min(self.card.capabilities.history, self.options.clip - 1),
                memory_mb=self.backbone.memory_mb,
                parameters=self.backbone.parameters,
                metered=bool(address),
                licence="that of the model served" if address else self.card.capabilities.licence,
            ),
            prompt_id=" ".join(prompt.id for prompt in self.texts.values()),
            cache_frames=self.options.cached_frames,
        )

    @abstractmethod
    def _judge(self, cases: Sequence[Case]) -> ScoreArrays:
        """Turn cases into signals, one row each."""

    def close(self) -> None:
        """Let the weights go."""
        self.backbone.close()

    @property
    def spent(self) -> Spent | None:
        """What asking a server has cost so far; ``None`` with weights of its own."""
        return getattr(self.backbone, "spent", None)

    def choose(
        self, fillings: Sequence[Filling], answers: Sequence[str], *, use: str = "prompt"
    ) -> Vector:
        """Return how likely each answer is, ``(n, answers)``; each row sums to 1.

        Args:
            fillings: What the prompt shows, one per question.
            answers: What may stand where the prompt file has ``{answer}``.
            use: Which prompt.
        """
        return softmax(self.weigh(fillings, answers, use=use))

    def weigh(
        self, fillings: Sequence[Filling], answers: Sequence[str], *, use: str = "prompt"
    ) -> Vector:
        """Return the log-probability of each answer, ``(n, answers)``; see ``choose``."""
        prompt = self.texts[use]
        tails = self.backbone.writer.tails(answers, opening=prompt.opening, closing=prompt.closing)
        passages = self.write(fillings, use=use)
        if self.options.think and self.backbone.continues:
            self._think(passages, prompt)
        return np.stack(self.backbone.weigh(passages, [tails] * len(passages)))

    def write(self, fillings: Sequence[Filling], *, use: str = "prompt") -> list[Passage]:
        """Return the prompt as the backbone reads it, up to the answer."""
        prompt = self.texts[use]
        return [self.backbone.writer.write(prompt.fill(filling)) for filling in fillings]

    def _think(self, passages: Sequence[Passage], prompt: Prompt) -> None:
        """Let the model write before it is asked; what it says of the answer itself is cut off."""
        said = self.backbone.generate(passages, tokens=self.options.think)
        for passage, text in zip(passages, said, strict=True):
            thought = text.partition(prompt.opening)[0] if prompt.opening else text
            passage.write(self.backbone.writer.tokens(thought.rstrip() + "\n"))

    def rows(self, count: int, **signals: Vector) -> ScoreArrays:
        """Make arrays of some signals; the others are NaN."""
        none = np.full(count, np.nan, np.float32)
        given = {name: np.asarray(signals.get(name, none), np.float32) for name in SIGNALS}
        return ScoreArrays(**given, failures={})

    def picture(self, frame: Frame) -> Picture:
        """See one more frame, a goal image say; seen once, as all others."""
        return Picture(key=frame.id, seen=self.encode([frame])[0])

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        return self.backbone.see(images)

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[Instants],
    ) -> ScoreArrays:
        failures: dict[int, str] = {}
        cases: dict[int, Case] = {}
        for row, query in enumerate(queries):
            try:
                self._check(query)
            except InstructionError as error:
                failures[row] = str(error)
                continue
            cases[row] = self._case(query, newest[row], reference[row], history[row])
        with self.backbone.asking():
            made = self._judge_parts(list(cases.values())) if cases else self.rows(0)
        own = list(cases)
        columns = {}
        for name in SIGNALS:
            column = np.full(len(queries), np.nan, np.float32)
            column[own] = getattr(made, name)
            columns[name] = column
        failures.update((own[row], why) for row, why in made.failures.items())
        return ScoreArrays(**columns, failures=failures)

    def _judge_parts(self, cases: Sequence[Case]) -> ScoreArrays:
        """Judge cases; where one has no answer they are halved until it stands alone."""
        try:
            return self._judge(cases)
        except Unanswered as error:
            if len(cases) == 1:
                return replace(self.rows(1), failures={0: str(error)})
        half = len(cases) // 2
        first, second = self._judge_parts(cases[:half]), self._judge_parts(cases[half:])
        columns = {
            name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in SIGNALS
        }
        later = {half + row: why for row, why in second.failures.items()}
        return ScoreArrays(**columns, failures={**first.failures, **later})

    def _check(self, query: Query) -> None:
        """Refuse a query that this model cannot be asked."""
        self.backbone.writer.check(query.task.text)
        if self.capabilities.goal_image and query.task.goal is None and self._goal_is_needed():
            raise InstructionError(f"{self.name} needs a goal image with the task")

    def _goal_is_needed(self) -> bool:
        return False

    def _case(
        self,
        query: Query,
        newest: tuple[Feature, ...],
        reference: tuple[Feature, ...],
        history: Instants,
    ) -> Case:
        """Name every feature by its frame. What a clip is, is said here and nowhere else."""
        now = _pictures(query.newest, newest)
        then = _pictures(query.reference, reference) or now
        past = [
            Picture(key=frames[0].id, seen=views[0])
            for frames, views in zip(query.history, history, strict=bool(history))
        ]
        earlier = [one for one in past if one.key != then[0].key] if query.reference else past
        able = self.capabilities
        goal, demo = query.task.goal, query.task.demo
        return Case(
            query=query,
            clip=(*past, now[0]),
            before=(*earlier, then[0]) if query.reference else (*past, now[0]),
            newest=now,
            reference=then,
            start=_pictures(query.history[0], history[0]) if history else then,
            goal=self.picture(goal) if able.goal_image and goal is not None else None,
            demo=tuple(map(self.picture, demo)) if able.demo else (),
        )

    def _endpoint_options(self, given: Mapping[str, Any]) -> tuple[EndpointOptions, dict[str, Any]]:
        own, rest = split_options(given, model=self.named)
        if not self.by_answers:
            raise ConfigError(f"{self.named} reads hidden states, which no server gives")
        if own.sample and not self.by_shares:
            raise ConfigError(f"{self.named} reads a log-probability; sample={own.sample} has none")
        return own, rest

    def _open(self, address: str, *, device: str) -> Instrument:
        """Load weights, or find out whether a server can be asked."""
        if self.endpoint is not None:
            from robo_reward.models.chat.endpoint import Endpoint

            return Endpoint(address, self.options, self.endpoint)
        require("torch", extra="vlm")
        from .backbone import Backbone

        return Backbone.find(
            self.options,
            default=self.card.weights,
            model=self.named,
            device=device,
            kinds=self.kinds,
            stands_for=self.stands_for,
            renamed=self.renamed,
            signs=self.signs,
        )

    def _prompt(self, use: str) -> Prompt:
        name, needs, may = self.prompts[use]
        own = getattr(self.options, use, "")
        return read_prompt(Path(own) if own else shipped(name), needs=needs, may=may)

    def _version(self) -> str:
        """Hash of the weights and of every option that changes what the model says."""
        said = {k: v for k, v in asdict(self.options).items() if k not in _NOT_IN_ID}
        said = {k: v for k, v in said.items() if not k.endswith("prompt")}
        for name in ("adapter", "adapters"):
            if said.get(name):
                folder = fetch(said[name], model=self.named, offline=self.options.offline)
                parts = [folder, *sorted(part for part in folder.iterdir() if part.is_dir())]
                said[name] = "".join(fingerprint(part) for part in parts)
        text = self.backbone.checkpoint.version + json.dumps(said, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        if self.endpoint is None:
            return digest
        return f"{self.backbone.checkpoint.name}+{self.endpoint.label}+{digest}"


def _pictures(frames: Sequence[Frame], features: Sequence[Feature]) -> tuple[Picture, ...]:
    return tuple(
        Picture(key=frame.id, seen=seen) for frame, seen in zip(frames, features, strict=True)
    )
