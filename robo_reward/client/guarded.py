"""Runs a batch so that one bad row does not cost the others their scores."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from robo_reward.query import Query
from robo_reward.signals import Identity, Score

if TYPE_CHECKING:
    from robo_reward.models.base import RewardModel

logger = logging.getLogger(__name__)


def answer_each(
    model: RewardModel, queries: Sequence[Query], *, client: str = ""
) -> tuple[list[Score], BaseException | None]:
    """Score queries; where a batch fails it is halved until the guilty rows stand alone.

    Args:
        model: Called from this thread only.
        queries: One batch.
        client: Goes into the identity.

    Returns:
        One score per query, ``model_error`` for those that fail by themselves, and the first error.
    """
    start = time.monotonic()
    try:
        scores = model.answer(queries, client=client)
        if len(scores) == len(queries):
            return scores, None
        error: Exception = ValueError(f"{len(scores)} rows for {len(queries)} queries")
    except Exception as caught:  # whatever third-party model code raises must not end the node
        error = caught
    if len(queries) == 1:
        logger.error("model %s failed on one query: %r", model.model_id, error, exc_info=error)
        return [_failed(model, queries[0], client=client, start=start)], error
    half = len(queries) // 2
    first, _ = answer_each(model, queries[:half], client=client)
    second, _ = answer_each(model, queries[half:], client=client)
    return first + second, error


def _failed(model: RewardModel, query: Query, *, client: str, start: float) -> Score:
    # The text of the error stays in the log: it may hold paths and other insides.
    return Score.missing(
        "MODEL_ERROR",
        identity=model.identity(query, client=client, inference_s=time.monotonic() - start),
        detail="the model failed on this query; its log says why",
    )


def asked(
    query: object, *, client: str, model: str = "", total_s: float = float("nan")
) -> Identity:
    """Make the identity of a question that got no answer."""
    return Identity(
        client=client,
        env=getattr(query, "env", 0),
        episode=getattr(query, "episode", 0),
        step=getattr(query, "step", 0),
        frames=tuple(frame.id for frame in getattr(query, "newest", ())),
        reference=tuple(frame.id for frame in getattr(query, "reference", ())),
        history=tuple(frame.id for frame in getattr(query, "past", ())),
        model=model,
        total_s=total_s,
    )
