"""``VisualRewardVector``: the twin of ``VisualReward`` for Gymnasium's vector environments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import iterate
from numpy.typing import NDArray

from robo_reward.client.source import Source
from robo_reward.errors import ConfigError

from .frame_tap import TAP, check_stride, read_tap
from .reward_config import RewardConfig
from .reward_episode import RewardRecord, StepFacts
from .reward_session import Listener, RewardSession
from .reward_wrapper import claim_envs, describe
from .task_finder import Demo, Goal, Instruction, TaskFinder, without_truth

Infos = dict[str, Any]
Batch = tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Infos]
NO_TRANSITION = (-1, -1, -1)


class VisualRewardVector(gymnasium.vector.VectorWrapper):
    """Replaces the rewards, and by default the ends, of a vector environment by what a model sees.

    The questions of all environments go out in one batch per step. Each environment needs a
    ``FrameTap`` as its outermost wrapper. What ``VisualReward`` writes into ``info`` is here an
    array with one entry per environment: ``reward_for`` is ``(n, 3) int``, the rest objects.

    The auto-reset mode of the environment is kept, also where the model's done ends an episode:

    * ``NEXT_STEP``: the step after an end resets; it is no transition, its reward is NaN, its
      ``reward_for`` (−1, −1, −1) and its ``reward_status`` ``reset``.
    * ``SAME_STEP``: ``final_obs`` holds the last observation; the reward is that of its frame.
    * ``DISABLED``: call ``reset(options={"reset_mask": mask})``.

    Args:
        env: Made with ``gymnasium.make_vec(..., wrappers=[FrameTap])`` or of tapped functions.
        source: What answers; it stays open.
        instruction: See ``TaskFinder``.
        goal: See ``TaskFinder``.
        demo: See ``TaskFinder``.
        camera_stream: Names of camera nodes that push frames to the reward node on their own.
        listeners: Called with (question, score, action) for every score.
        config: Where the options start from.
        **options: Fields of ``RewardConfig``.

    Raises:
        ConfigError: An option is wrong, or there are no taps.
    """

    def __init__(
        self,
        env: gymnasium.vector.VectorEnv[Any, Any, Any],
        source: Source,
        *,
        instruction: Instruction = None,
        goal: Goal = None,
        demo: Demo = (),
        camera_stream: Sequence[str] = (),
        listeners: Sequence[Listener] = (),
        config: RewardConfig | None = None,
        **options: Any,
    ) -> None:
        super().__init__(env)
        self.config = RewardConfig.of(config, options)
        cameras = self._check_taps(tuple(camera_stream))
        self.autoreset = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self.session = RewardSession(
            source,
            config=self.config,
            cameras=cameras,
            num_envs=env.num_envs,
            first_env=claim_envs(source, number=env.num_envs),
            stream=bool(camera_stream),
            listeners=listeners,
        )
        # get_attr and set_attr are those of Gymnasium's two vector environments, not of the base.
        self._subenvs: Any = env
        self._tasks = [TaskFinder(instruction, goal, demo) for _ in range(env.num_envs)]
        self._resets_next: NDArray[np.bool_] = np.zeros(env.num_envs, np.bool_)
        self._declared: NDArray[np.bool_] = np.zeros(env.num_envs, np.bool_)
        self._sequence = 0
        self._name_scenes()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Infos]:
        """Reset all environments, or those of ``options["reset_mask"]``, and ask about them."""
        mask = np.ones(self.num_envs, np.bool_)
        if options and "reset_mask" in options:
            mask = np.array(options["reset_mask"], np.bool_)
        observations, infos = self.env.reset(seed=seed, options=options)
        self._resets_next &= ~mask
        for env in np.flatnonzero(mask).tolist():
            self._begin(env, row_of(infos, env))
        self.session.flush()
        return observations, self._clean(infos)

    def step(self, actions: Any) -> Batch:
        """Step all environments; see the class and ``VisualReward`` for what comes back.

        Raises:
            RewardLost: Scores stayed away for longer than the patience, or too many of them.
        """
        observations, env_rewards, terminations, truncations, infos = self.env.step(actions)
        each_action = list(iterate(self.action_space, actions))
        facts = [
            StepFacts(
                action=each_action[env],
                reward=float(env_rewards[env]),
                terminated=bool(terminations[env]),
                truncated=bool(truncations[env]),
                declared=bool(self._declared[env]),
            )
            for env in range(self.num_envs)
        ]
        self._declared[:] = False
        keys = [self._take(env, facts[env], infos) for env in range(self.num_envs)]
        self.session.flush()
        records = self.session.drain()
        own = {record.key: record for record in records}
        rewards = np.array(
            [own[key].reward if key in own else math.nan for key in keys], np.float64
        )
        terminated = np.array(
            [self._terminated(own.get(keys[e]), facts[e]) for e in range(self.num_envs)], np.bool_
        )
        ended = np.asarray(terminations | truncations, np.bool_)
        # After an end within this step the session is already in the next episode.
        over = np.array([self.session.is_over(env) for env in range(self.num_envs)], np.bool_)
        over &= np.array([key != NO_TRANSITION for key in keys], np.bool_)
        if self.autoreset is AutoresetMode.SAME_STEP:
            over &= ~ended
        truncated = np.asarray(truncations | ((ended | over) & ~terminated), np.bool_)
        infos = self._describe(infos, keys, records)
        stopped = (terminated | over) & ~ended
        observations, infos = self._stop(stopped, observations, infos)
        self._resets_next = np.asarray(
            (ended | stopped) & (self.autoreset is AutoresetMode.NEXT_STEP), np.bool_
        )
        return observations, rewards, terminated, truncated, infos

    def declare_done(self, env: int) -> None:
        """Say, as the person who owns done, that the next step of this environment ends it."""
        if self.config.done_owner != "human":
            raise ConfigError(f"done_owner is {self.config.done_owner!r}; a person has no say here")
        self._declared[env] = True

    def settle(self) -> list[RewardRecord]:
        """Wait for every reward that is still open and return those that came."""
        self.session.flush()
        return self.session.drain(wait="all")

    def stats(self) -> dict[str, int]:
        """Return counts: questions, retries, one per status, dones, dropped transitions."""
        return self.session.stats()

    def close(self, **kwargs: Any) -> None:
        """Close the environments; open questions are given up, the source stays open."""
        self.session.close()
        super().close(**kwargs)

    def _check_taps(self, stream: tuple[str, ...]) -> tuple[str, ...]:
        subenvs: Any = self.env
        try:
            strides = subenvs.get_attr("tap_stride")
            cameras = tuple(subenvs.get_attr("tap_cameras")[0])
        except AttributeError as error:
            raise ConfigError(
                "each environment needs a FrameTap outside all its wrappers: "
                "gymnasium.make_vec(..., wrappers=[FrameTap]); a vector environment resets "
                "before it returns, so that frames must be taken inside"
            ) from error
        check_stride(strides[0], wanted=self.config.stride)
        if bool(cameras) == bool(stream):
            raise ConfigError("camera_stream goes with FrameTap(stream=True), and only with it")
        return cameras or stream

    def _name_scenes(self) -> None:
        first = self.session.first_env
        self._subenvs.set_attr("scene_env", [first + index for index in range(self.num_envs)])

    def _begin(self, env: int, row: Mapping[str, Any]) -> None:
        self._sequence += 1
        moment = read_tap(row.get(TAP), sequence=self._sequence, config=self.config)
        self.session.begin(env, moment, task=self._tasks[env].find(row))

    def _take(self, env: int, facts: StepFacts, infos: Infos) -> tuple[int, int, int]:
        """Hand one transition to the session; a step that only resets is none."""
        row = row_of(infos, env)
        if self._resets_next[env]:
            self._begin(env, row)
            return NO_TRANSITION
        ended = facts.terminated or facts.truncated
        next_row = row
        if ended and self.autoreset is AutoresetMode.SAME_STEP:
            row = row.get("final_info", {})
        self._sequence += 1
        moment = read_tap(row.get(TAP), sequence=self._sequence, config=self.config)
        key = self.session.step(env, moment, facts=facts)
        if ended and self.autoreset is AutoresetMode.SAME_STEP:
            self._begin(env, next_row)
        elif not ended and not facts.declared:
            self.session.change_task(env, self._tasks[env].find(row))
        return key

    def _terminated(self, own: RewardRecord | None, facts: StepFacts) -> bool:
        if self.config.done_owner == "env":
            return facts.terminated
        if self.config.done_owner == "human":
            return facts.declared
        return own is not None and own.terminated

    def _stop(
        self, stopped: NDArray[np.bool_], observations: Any, infos: Infos
    ) -> tuple[Any, Infos]:
        """Have those environments reset that would go on by themselves."""
        if not stopped.any() or self.autoreset is AutoresetMode.DISABLED:
            return observations, infos
        if self.autoreset is AutoresetMode.NEXT_STEP:
            self._subenvs.set_attr("reset_next", stopped.tolist())
            return observations, infos
        last = list(iterate(self.observation_space, observations))
        observations, fresh = self.env.reset(options={"reset_mask": stopped})
        final = infos.setdefault("final_obs", np.full(self.num_envs, None, object))
        there = infos.setdefault("_final_obs", np.zeros(self.num_envs, np.bool_))
        for env in np.flatnonzero(stopped).tolist():
            final[env], there[env] = last[env], True
            self._begin(env, row_of(fresh, env))
        return observations, infos

    def _describe(
        self, infos: Infos, keys: Sequence[tuple[int, int, int]], records: list[RewardRecord]
    ) -> Infos:
        infos = self._clean(infos)
        own = {record.key: record for record in records}
        said = [describe(own.get(key), key=key) for key in keys]
        for one in said:
            if one["reward_for"] == NO_TRANSITION:
                one["reward_status"] = "reset"
        infos["reward_for"] = np.array(keys, np.int64)
        for name in ("reward_status", "score", "reward_terms"):
            infos[name] = objects([one.get(name) for one in said])
            infos[f"_{name}"] = np.array([name in one for one in said], np.bool_)
        late = [
            tuple(record for record in records if record.env == env and record.key != keys[env])
            for env in range(self.num_envs)
        ]
        if any(late) or self.config.mode != "sync":
            infos["late_rewards"] = objects(late)
        episodes = self.session.take_summaries()
        if episodes:
            infos["reward_episodes"] = tuple(episodes)
        return infos

    def _clean(self, infos: Infos) -> Infos:
        infos = without_truth(infos, (*self.config.truth_keys, TAP))
        infos["done_owner"] = self.config.done_owner
        return infos


def row_of(infos: Mapping[str, Any], env: int) -> dict[str, Any]:
    """Return what a vector ``infos`` says of one environment, as its own ``info`` said it."""
    row: dict[str, Any] = {}
    for name, value in infos.items():
        mask = infos.get(f"_{name}")
        if mask is None or not mask[env]:
            continue
        row[name] = row_of(value, env) if isinstance(value, dict) else value[env]
    return row


def objects(values: Sequence[Any]) -> NDArray[np.object_]:
    """Return an array of objects, one per environment, whatever they are."""
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array
