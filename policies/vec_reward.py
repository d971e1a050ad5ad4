"""``VecVisualReward``: the twin of ``VisualReward`` for Stable-Baselines3's vector environments."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecEnvWrapper

from robo_reward.client.source import Source
from robo_reward.envs.cameras import View
from robo_reward.envs.frame_tap import TAP, FrameTap, check_stride, read_tap
from robo_reward.envs.reward_config import RewardConfig
from robo_reward.envs.reward_episode import EpisodeSummary, RewardRecord, StepFacts
from robo_reward.envs.reward_session import Listener, RewardSession
from robo_reward.envs.reward_wrapper import Veto, claim_envs, describe
from robo_reward.envs.scene_stream import SceneSink
from robo_reward.envs.task_finder import Demo, Goal, Instruction, TaskFinder, without_truth
from robo_reward.errors import ConfigError

Key = tuple[int, int, int]


class VecVisualReward(VecEnvWrapper):
    """Replaces the rewards, and by default the ends, of a ``VecEnv`` by what a model sees.

    The questions of all environments go out in one batch per step. Modes, ``info`` and options are
    those of ``VisualReward``; the differences come from Stable-Baselines3:

    * each environment needs a ``FrameTap`` inside (``make_vec_reward`` puts it there), because a
      ``VecEnv`` resets before it returns;
    * where the model's done ends an episode, this wrapper resets the environment and gives
      ``terminal_observation`` and ``TimeLimit.truncated`` as a ``VecEnv`` would;
    * ``info["episode"]`` holds the return that the model gave (``ep_rew_mean`` in the logs), when
      all rewards of the episode are known;
    * rewards that are late or missing are NaN: use the buffers of ``robo_reward.policies.buffers``
      and call its ``attach``.

    Args:
        venv: A ``DummyVecEnv`` or ``SubprocVecEnv``, not wrapped by another ``VecEnvWrapper``:
            those go around this one.
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
        venv: VecEnv,
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
        if isinstance(venv, VecEnvWrapper):
            raise ConfigError(
                f"put VecVisualReward directly around the VecEnv, and {type(venv).__name__} "
                "around VecVisualReward: it resets single environments"
            )
        if not all(venv.env_is_wrapped(FrameTap)):
            raise ConfigError(
                "each environment needs a FrameTap inside: make_vec_env(..., "
                "wrapper_class=FrameTap, wrapper_kwargs={'cameras': ...}), or make_vec_reward(...)"
            )
        super().__init__(venv)
        self.config = RewardConfig.of(config, options)
        check_stride(venv.get_attr("tap_stride")[0], wanted=self.config.stride)
        cameras = venv.get_attr("tap_cameras")[0]
        if bool(cameras) == bool(camera_stream):
            raise ConfigError("camera_stream goes with FrameTap(stream=True), and only with it")
        self.stream = bool(camera_stream)
        self.session = RewardSession(
            source,
            config=self.config,
            cameras=cameras or tuple(camera_stream),
            num_envs=venv.num_envs,
            first_env=claim_envs(source, number=venv.num_envs),
            stream=self.stream,
            listeners=listeners,
        )
        for env in range(venv.num_envs):
            venv.env_method("name_scene", self.session.first_env + env, indices=[env])
        self.wait_at_end = False
        self.last_infos: list[dict[str, Any]] = []
        self._tasks = [TaskFinder(instruction, goal, demo) for _ in range(venv.num_envs)]
        self._declared = [False] * venv.num_envs
        self._finished: list[deque[EpisodeSummary]] = [deque() for _ in range(venv.num_envs)]
        self._raw: list[dict[str, Any]] = [{}] * venv.num_envs
        self._actions: Any = None
        self._sequence = 0
        self._start = time.monotonic()

    def reset(self) -> Any:
        """Reset all environments and ask about their first frames."""
        observations = self.venv.reset()
        for env, info in enumerate(self.venv.reset_infos):
            self._begin(env, info)
        self.session.flush()
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Start a step of all environments."""
        self._actions = actions
        self.venv.step_async(actions)

    def step_wait(self) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Finish the step; see the class for what comes back.

        Raises:
            RewardLost: Scores stayed away for longer than the patience, or too many of them.
        """
        observations, env_rewards, ends, raw = self.venv.step_wait()
        infos = list(raw)
        facts = [
            self._facts(env, float(env_rewards[env]), ended=bool(ends[env]), info=infos[env])
            for env in range(self.num_envs)
        ]
        keys = [self._take(env, facts[env], infos[env]) for env in range(self.num_envs)]
        reasons = [self.session.end_of(env) for env in range(self.num_envs)]
        ended = [env for env in range(self.num_envs) if ends[env]]
        for env in ended:
            self._begin(env, self.venv.reset_infos[env])
        self.session.flush()
        records = self.session.drain()
        if self.wait_at_end and ended:
            records += self.session.drain(wait="all", envs=ended)
        self._collect_summaries()
        rewards = np.full(self.num_envs, math.nan, np.float32)
        dones = np.array(ends, np.bool_)
        for env in range(self.num_envs):
            mine = [record for record in records if record.env == env]
            own = next((record for record in mine if record.key == keys[env]), None)
            terminated = self._terminated(own, facts[env])
            # The model, or a person, ends an episode that the environment itself would go on with.
            stopped = not ends[env] and (terminated or self.session.is_over(env))
            info = self._info(infos[env], own, mine, key=keys[env])
            if stopped:
                self._reset_one(env, observations, info)
            dones[env] |= stopped
            info["TimeLimit.truncated"] = bool(dones[env]) and not terminated
            if dones[env]:
                owner = f"done:{self.config.done_owner}"
                info["episode_end"] = owner if terminated or stopped else reasons[env]
            rewards[env] = own.reward if own is not None else math.nan
            infos[env] = info
        self.last_infos = infos
        return observations, rewards, dones, infos

    def set_task(
        self,
        instruction: Instruction,
        *,
        goal: Goal = None,
        demo: Demo = (),
        indices: Sequence[int] | None = None,
    ) -> None:
        """Change what the robots should do, from the next step on."""
        for env in range(self.num_envs) if indices is None else indices:
            self._tasks[env].set(instruction, goal=goal, demo=demo)
            if self._raw[env]:
                self.session.change_task(env, self._tasks[env].find(self._raw[env]))

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

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must keep: the statistics of the shaper."""
        return self.session.shaper.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.session.shaper.load_state_dict(state)

    def close(self) -> None:
        """Close the environments; open questions are given up, the source stays open."""
        self.session.close()
        super().close()

    def _begin(self, env: int, raw: Mapping[str, Any]) -> None:
        self._sequence += 1
        moment = read_tap(raw.get(TAP), sequence=self._sequence, config=self.config)
        self._declared[env] = False
        task = self._tasks[env].find(raw)
        self.session.begin(env, moment, task=task)
        self._raw[env] = {name: value for name, value in raw.items() if name != TAP}
        info = without_truth(self._raw[env], self.config.truth_keys)
        info["instruction"] = task.instruction
        info["done_owner"] = self.config.done_owner
        self.reset_infos[env] = info

    def _facts(self, env: int, reward: float, *, ended: bool, info: dict[str, Any]) -> StepFacts:
        truncated = bool(info.get("TimeLimit.truncated", False))
        return StepFacts(
            action=self._actions[env],
            reward=reward,
            terminated=ended and not truncated,
            truncated=truncated,
            declared=self._declared[env],
        )

    def _take(self, env: int, facts: StepFacts, info: dict[str, Any]) -> Key:
        """Hand one transition to the session."""
        self._sequence += 1
        self._declared[env] = False
        moment = read_tap(info.get(TAP), sequence=self._sequence, config=self.config)
        key = self.session.step(env, moment, facts=facts)
        ends = facts.terminated or facts.truncated or facts.declared
        self._raw[env] = {name: value for name, value in info.items() if name != TAP}
        task = self._tasks[env].find(info)
        if task is not self.session.task_of(env) and not ends:
            self.session.change_task(env, task)
        return key

    def _terminated(self, own: RewardRecord | None, facts: StepFacts) -> bool:
        if self.config.done_owner == "env":
            return facts.terminated
        if self.config.done_owner == "human":
            return facts.declared
        return own is not None and own.terminated

    def _info(
        self, raw: dict[str, Any], own: RewardRecord | None, mine: list[RewardRecord], *, key: Key
    ) -> dict[str, Any]:
        # Monitor's "episode" is the environment's own return, which is not what is optimised.
        hidden = (TAP, "episode")
        info = without_truth(
            {name: value for name, value in raw.items() if name not in hidden},
            self.config.truth_keys,
        )
        info.update(describe(own, key=key))
        late = tuple(record for record in mine if record.key != key)
        if late or self.config.mode != "sync":
            info["late_rewards"] = late
        queue = self._finished[key[0]]
        if queue:
            summary = queue.popleft()
            seconds = round(time.monotonic() - self._start, 6)
            info["episode"] = {"r": summary.total, "l": summary.length, "t": seconds}
            info["episode_summary"] = summary
        return info

    def _collect_summaries(self) -> None:
        for summary in self.session.take_summaries():
            if summary.end != "abandoned":
                self._finished[summary.env].append(summary)

    def _reset_one(self, env: int, observations: Any, info: dict[str, Any]) -> None:
        """Reset an environment whose episode was ended from outside, as its VecEnv would."""
        ((observation, raw),) = self.venv.env_method("reset", indices=[env])
        if isinstance(observations, dict):
            last = {name: np.array(values[env]) for name, values in observations.items()}
            for name, values in observations.items():
                values[env] = observation[name]
            info["terminal_observation"] = last
        else:
            info["terminal_observation"] = np.array(observations[env])
            observations[env] = observation
        # Its first question goes out with the next step's: one batch per step.
        self._begin(env, raw)


def make_vec_reward(
    make: Sequence[Callable[[], gymnasium.Env[Any, Any]]],
    source: Source,
    *,
    cameras: Mapping[str, View] | None = None,
    camera_stream: Sequence[str] = (),
    scene: SceneSink | None = None,
    veto: Veto | None = None,
    processes: bool = False,
    config: RewardConfig | None = None,
    **options: Any,
) -> VecVisualReward:
    """Make environments, tap them, and put ``VecVisualReward`` around them.

    Args:
        make: One function per environment that makes it.
        source: What answers.
        cameras: See ``Cameras``.
        camera_stream: See ``VecVisualReward``.
        scene: See ``FrameTap``; not with ``processes``.
        veto: See ``FrameTap``.
        processes: Whether each environment gets a process of its own.
        config: See ``VecVisualReward``.
        **options: Those of ``VecVisualReward`` and the fields of ``RewardConfig``.
    """
    if scene is not None and processes:
        raise ConfigError("a scene is published from this process; leave processes out")
    stride = int(options.get("stride", config.stride if config else RewardConfig().stride))

    def tapped(one: Callable[[], gymnasium.Env[Any, Any]]) -> Callable[[], FrameTap]:
        return lambda: FrameTap(
            one(),
            cameras=cameras,
            stream=bool(camera_stream),
            scene=scene,
            veto=veto,
            stride=stride,
        )

    functions = [tapped(one) for one in make]
    venv: VecEnv = SubprocVecEnv(functions) if processes else DummyVecEnv(functions)  # type: ignore[arg-type]
    return VecVisualReward(venv, source, camera_stream=camera_stream, config=config, **options)
