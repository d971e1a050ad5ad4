"""Somebody else's model behind RoboValue's query contract, as a reward model of ours.

    endpoint:robovalue:https://host/inference?model_id=m&model_version=3&preprocessing_version=p2

Idea: progress is the ``value`` of a context of one frame (the contract's ``current_frame_v1``),
delta the difference of two such values, so that it telescopes; the other signals are not given.
Values stay in the model's own units, so ``low`` and ``high`` say which of them are progress 0 and
1; one outside is an error and is not clipped. After ``?``: ``model_id``, ``model_version``,
``preprocessing_version`` and ``shot_mode`` as agreed with who runs the service (a node of ours
tells them itself), ``low`` (0) and ``high`` (1), ``max_views`` (1), ``batch`` (16 items a POST),
``token_env`` (the variable that holds the bearer token).
Licence: that of the model behind the address.
"""

from __future__ import annotations

import contextlib
import math
import urllib.parse
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from robo_reward.errors import ConfigError, ModelError
from robo_reward.frames import Frame, Image
from robo_reward.models.base import Capabilities, Feature, RewardModel, ScoreArrays
from robo_reward.protocol.png import encode_png
from robo_reward.protocol.robovalue import (
    Context,
    ContractError,
    Item,
    ShotMode,
    Subject,
    read_response,
    write_request,
)
from robo_reward.query import Query
from robo_reward.task import Task

from .web import Patience, Service, bearer

TIMEOUT_S = 120.0
LOOK_S = 10.0
PATIENCE = Patience()
VALUES_KEPT = 100_000
NAMES = uuid.UUID("6a3b8d2e-0f1c-5c57-9b1e-6f0a3d7c2b45")
"""Request ids are made of this and of what is asked, so that asking again is the same request."""

Views = tuple[str, ...]


class Agreed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What follows the address; the module's text says what each one means."""

    model_id: str = ""
    model_version: str = ""
    preprocessing_version: str = ""
    shot_mode: ShotMode | Literal[""] = ""
    low: float = 0.0
    high: float = 1.0
    max_views: Annotated[int, msgspec.Meta(ge=0, le=16)] = 0
    batch: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    token_env: str = ""


class RoboValueModel(RewardModel):
    """Asks a service of the contract.

    Args:
        address: URL, and after ``?`` what was agreed on.
        device: Ignored; the model runs elsewhere.

    Raises:
        ConfigError: The address or a setting is wrong, or the service does not say who it is.
        PeerUnreachable: The service was asked who it is, and did not answer.
    """

    def __init__(self, address: str, *, device: str = "auto") -> None:
        self.url, self.agreed = _read_address(address)
        token = bearer(variable=self.agreed.token_env)
        self._service = Service(self.url, token=token, patience=PATIENCE)
        self.subject, views = self._who()
        self._values: OrderedDict[tuple[Views, str], float] = OrderedDict()
        super().__init__(
            name=self.subject.model_id,
            version=self.subject.model_version,
            capabilities=Capabilities(signals=("progress", "progress_delta"), max_views=views),
            prompt_id=self.subject.preprocessing_version,
            cache_frames=1024,
        )

    def _encode(self, images: Sequence[Image], task: Task | None) -> Sequence[Feature]:
        return [encode_png(image) for image in images]

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[tuple[tuple[Feature, ...], ...]],
    ) -> ScoreArrays:
        asked: dict[tuple[Views, str], Item] = {}
        keys = []
        for query, now, then in zip(queries, newest, reference, strict=True):
            text = query.task.text
            new = _key(query.newest, text)
            old = _key(query.reference, text) if query.reference else new
            keys.append((new, old))
            for key, frames, files in ((new, query.newest, now), (old, query.reference, then)):
                if key not in asked and key not in self._values:
                    asked[key] = _item(frames, files, text)
        found = {key: self._values[key] for pair in keys for key in pair if key in self._values}
        found.update(self._ask(asked))
        progress = np.array([found[new] for new, _ in keys], np.float32)
        before = np.array([found[old] for _, old in keys], np.float32)
        none = np.full(len(queries), np.nan, np.float32)
        return ScoreArrays(
            progress=progress,
            progress_delta=progress - before,
            done=none,
            contrastive=none,
            uncertainty=none,
        )

    def _ask(self, asked: dict[tuple[Views, str], Item]) -> dict[tuple[Views, str], float]:
        keys, items = list(asked), list(asked.values())
        found: dict[tuple[Views, str], float] = {}
        for start in range(0, len(items), self.agreed.batch):
            part = items[start : start + self.agreed.batch]
            values = self._post(part)
            for key, value in zip(keys[start:], values, strict=False):
                found[key] = self._values[key] = self._progress(value)
            while len(self._values) > VALUES_KEPT:
                self._values.popitem(last=False)
        return found

    def _progress(self, value: float) -> float:
        progress = (value - self.agreed.low) / (self.agreed.high - self.agreed.low)
        if not -1e-6 <= progress <= 1 + 1e-6:
            raise ModelError(
                f"{self.name} gave {value:g}, outside {self.agreed.low:g} (progress 0) to "
                f"{self.agreed.high:g} (progress 1); say low= and high= in its own units"
            )
        return min(max(progress, 0.0), 1.0)

    def _post(self, items: Sequence[Item]) -> list[float]:
        body = write_request(self.subject, items)
        try:
            return read_response(self._service.ask(body, timeout_s=TIMEOUT_S), self.subject, items)
        except ContractError as error:
            raise ModelError(f"{self.url} broke the contract: {error.detail}") from error

    def _who(self) -> tuple[Subject, int]:
        """Return who is asked and with how many views, as agreed or as the service says."""
        said: dict[str, Any] = {}
        fields = msgspec.structs.asdict(self.agreed)
        agreed = {name: fields[name] for name in Subject.__struct_fields__ if fields[name]}
        if not {"model_id", "model_version", "preprocessing_version"} <= set(agreed):
            with contextlib.suppress(msgspec.DecodeError, ModelError):
                told = msgspec.json.decode(self._service.ask(timeout_s=LOOK_S))
                said = told if isinstance(told, dict) else {}
        try:
            subject = msgspec.convert({"shot_mode": "zero_shot", **said, **agreed}, Subject)
            views = self.agreed.max_views or msgspec.convert(said.get("max_views", 1), int)
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"{self.url} does not say who it is ({error}); add ?model_id=…&model_version=…"
                "&preprocessing_version=…"
            ) from error
        return subject, views


def _read_address(address: str) -> tuple[str, Agreed]:
    parts = urllib.parse.urlsplit(address)
    if not parts.hostname or parts.username is not None or parts.fragment:
        raise ConfigError(f"{address!r} is no URL of a service: https://host/path?model_id=…")
    given = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
    try:
        agreed = msgspec.convert(dict(given), Agreed, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{address}: {error}") from error
    if len(dict(given)) != len(given) or not math.isfinite(agreed.high - agreed.low):
        raise ConfigError(f"{address}: a setting stands there twice, or is not finite")
    if agreed.low == agreed.high:
        raise ConfigError(f"{address}: low and high must differ")
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path or "/", "", "")), agreed


def _key(frames: Sequence[Frame], text: str) -> tuple[Views, str]:
    # The names too: they say which camera the service takes a picture for.
    return tuple(f"{frame.header.camera} {frame.id}" for frame in frames), text


def _item(frames: Sequence[Frame], files: Sequence[bytes], text: str) -> Item:
    names = [frame.header.camera for frame in frames]
    if len(set(names)) != len(names):
        raise ModelError(f"views need names of their own, got {names}")
    context = Context(frames=(dict(zip(names, files, strict=True)),))
    item = Item(request_id="", op="value", instruction=text, contexts=(context,))
    name = uuid.uuid5(NAMES, item.digest().hex())
    return msgspec.structs.replace(item, request_id=str(name))
