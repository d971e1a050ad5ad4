"""An environment whose frames name their own (env, episode, step), and sources that misbehave.

The progress painted into a frame is ``code(env, episode, step)``: whoever knows a transition knows
the reward that must come back for it, so that a foreign reward shows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from robo_reward.client.source import ModelInfo
from robo_reward.errors import PeerUnreachable
from robo_reward.frames import Image
from robo_reward.models.oracle_pixels import OraclePixels, paint
from robo_reward.query import Mark, Query
from robo_reward.signals import SIGNALS, Identity, Score, Signals

INSTRUCTION = "push the red cube"


def code(env: int, episode: int, step: int) -> float:
    """Progress that is painted for this state; a multiple of 1/255."""
    return (env * 59 + episode * 101 + step * 37) % 256 / 255


def delta(env: int, episode: int, step: int, *, span: int = 1) -> float:
    """Difference of progress that belongs to the transition(s) that end in this state."""
    return code(env, episode, step) - code(env, episode, step - span)


class PixelEnv(gymnasium.Env[Any, Any]):
    """Observes (env, episode, step), draws ``code`` of it.

    Args:
        number: Index painted into the frames.
        horizon: Steps until truncation.
        done_at: Step at which the frame shows that the task is done; never when ``None``.
        terminate_at: Step at which the environment itself terminates.
        render_mode: ``"rgb_array"`` or ``None``.
        dict_obs: Whether the observation is a Dict that holds the image under ``"front"``.
        jitter: Whether horizons differ between episodes.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - Gymnasium's way

    def __init__(
        self,
        number: int = 0,
        *,
        horizon: int = 10,
        done_at: int | None = None,
        terminate_at: int | None = None,
        render_mode: str | None = "rgb_array",
        dict_obs: bool = False,
        jitter: bool = False,
    ) -> None:
        self.number, self.horizon, self.done_at = number, horizon, done_at
        self.terminate_at, self.render_mode, self.jitter = terminate_at, render_mode, jitter
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        state = gymnasium.spaces.Box(-1e6, 1e6, (3,), np.float32)
        self.dict_obs = dict_obs
        self.observation_space: gymnasium.Space[Any] = state
        if dict_obs:
            image = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
            self.observation_space = gymnasium.spaces.Dict({"state": state, "front": image})
        self.episode, self.at, self.rendered = -1, 0, 0

    def _observation(self) -> Any:
        state = np.array([self.number, self.episode, self.at], np.float32)
        return {"state": state, "front": self.picture()} if self.dict_obs else state

    def picture(self) -> Image:
        """Paint the present state."""
        done = self.done_at is not None and self.at >= self.done_at
        salt = (self.number * 1000 + self.episode) * 1000 + self.at
        return paint(code(self.number, self.episode, self.at), float(done), salt=salt)

    def render(self) -> Any:
        self.rendered += 1
        return self.picture()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode += 1
        self.at = 0
        return self._observation(), {"success": False}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at += 1
        horizon = self.horizon + (self.episode % 3 if self.jitter else 0)
        terminated = self.terminate_at is not None and self.at >= self.terminate_at
        info = {"success": True, "is_success": True, "note": self.at}
        return self._observation(), 1000.0, terminated, self.at >= horizon, info


class Answer:
    """Scores that become ready after some looks; asked for earlier, they are simply there."""

    def __init__(self, scores: list[Score], *, looks: int = 0) -> None:
        self.scores, self.looks, self.cancelled = scores, looks, False

    def done(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def result(self, *, timeout_s: float) -> list[Score]:
        assert timeout_s > 0
        return self.scores

    def cancel(self) -> None:
        self.cancelled = True


class PixelSource:
    """Answers at once, or after ``looks`` looks; keeps what it was asked.

    Args:
        looks: How often ``done`` is false before an answer is ready.
        max_views: Cameras that one query may hold.
        signals: Names of the signals that it claims.
    """

    def __init__(
        self, *, looks: int = 0, max_views: int = 8, signals: tuple[str, ...] = SIGNALS
    ) -> None:
        self.model = OraclePixels()
        self.looks, self.max_views, self.signals = looks, max_views, signals
        self.batches: list[list[Query | Mark]] = []
        self.answers: list[Answer] = []
        self.away = 0

    @property
    def asked(self) -> list[Query | Mark]:
        return [query for batch in self.batches for query in batch]

    def info(self) -> ModelInfo:
        if self.away:
            self.away -= 1
            raise PeerUnreachable("nobody is there")
        return ModelInfo(
            model=self.model.model_id,
            prompt="none",
            calibration=self.model.calibration_id,
            signals=self.signals,
            max_views=self.max_views,
            goal_image=False,
        )

    def submit(self, queries: Sequence[Query | Mark], *, deadline_s: float | None = None) -> Answer:
        self.batches.append(list(queries))
        answer = self.answer([self.score(query) for query in queries])
        self.answers.append(answer)
        return answer

    def answer(self, scores: list[Score]) -> Answer:
        return Answer(scores, looks=self.looks)

    def score(self, query: Query | Mark) -> Score:
        if isinstance(query, Query):
            return self.model.answer([query])[0]
        identity = Identity(env=query.env, episode=query.episode, step=query.step)
        progress = code(query.env, query.episode, query.step)
        before = code(query.env, query.episode, max(0, query.step - 1))
        return Score(
            signals=Signals(
                progress=progress,
                progress_delta=progress - before,
                done=0.0,
                contrastive=0.0,
                uncertainty=0.0,
            ),
            identity=identity,
        )

    def close(self) -> None:
        return None


class FailingSource(PixelSource):
    """Fails the queries for which ``reason`` gives a code of ``signals.REASONS``."""

    def __init__(self, reason: Any, **settings: Any) -> None:
        super().__init__(**settings)
        self.reason = reason

    def score(self, query: Query | Mark) -> Score:
        reason = self.reason(query)
        score = super().score(query)
        if reason is None:
            return score
        return Score.missing(reason, identity=score.identity, detail="as planned")


class ChaoticSource(PixelSource):
    """Delays by a random number of looks, shuffles answers, and loses some of them.

    Args:
        seed: Of the chaos.
        loss: Share of the queries whose answer never comes.
        error: Share of the queries that end in a model error.
    """

    def __init__(self, *, seed: int, loss: float = 0.0, error: float = 0.0) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.loss, self.error = loss, error

    def score(self, query: Query | Mark) -> Score:
        score = super().score(query)
        if self.random.random() < self.error:
            return Score.missing("MODEL_ERROR", identity=score.identity)
        return score

    def answer(self, scores: list[Score]) -> Answer:
        kept = [score for score in scores if self.random.random() >= self.loss]
        self.random.shuffle(kept)
        return Answer(kept, looks=self.random.randrange(12))


class ForeignSource(PixelSource):
    """Answers with the score of another episode, which must never be believed."""

    def score(self, query: Query | Mark) -> Score:
        score = super().score(query)
        return replace(score, identity=replace(score.identity, episode=score.identity.episode + 1))
