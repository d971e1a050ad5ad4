"""``VisualReward``: any Gymnasium environment with a reward that a model reads from its frames."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

import gymnasium

from robo_reward.client.source import Source
from robo_reward.errors import ConfigError

from .cameras import Cameras, View, make_frames
from .reward_config import RewardConfig
from .reward_episode import Moment, RewardRecord, StepFacts
from .reward_session import Listener, RewardSession
from .scene_stream import FollowedEnv, SceneSink, followed
from .task_finder import Demo, Goal, Instruction, TaskFinder, with_instruction, without_truth

Veto = Callable[[Any, Mapping[str, Any]], bool]
"""Called with observation and info; true where the task cannot be done in this posture."""

_taken: WeakKeyDictionary[Source, count[int]] = WeakKeyDictionary()


def claim_envs(source: Source, *, number: int = 1) -> int:
    """Return the first of ``number`` environment indices that no other wrapper of this source has.

    Two environments behind one client must not carry one name.
    """
    counter = _taken.setdefault(source, count())
    first = next(counter)
    for _ in range(number - 1):
        next(counter)
    return first


class VisualReward(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Replaces the reward, and by default the end, of an environment by what a model sees.

    The transition of step k is scored on the frame after it against the frame of the query before.

    * ``mode="sync"``: ``step`` returns the reward of its own transition.
    * ``mode="pipelined"``: the question of step k is answered while the policy and the environment
      go on; ``step`` k+1 waits for it if it must. ``step`` returns NaN for its own transition,
      named by ``info["reward_for"]`` = (env, episode, step), and what became known in
      ``info["late_rewards"]``: ``RewardRecord`` objects that name their transition. The last ones
      of an episode come with the first step of the next one, or from ``settle()``.
    * ``mode="deferred"``: as pipelined, but nothing is waited for below ``max_in_flight``.

    ``info["reward_status"]`` says ``ok``, ``pending``, or why there will never be a reward for this
    transition. A done that is found late ends the episode at the transition that it names: its
    record says ``terminated``, later transitions of the episode are ``cancelled``, and ``step``
    returns ``truncated`` so that the loop resets.

    Where the model owns done, ``terminated`` of the environment does not pass. The environment has
    ended all the same and must be reset, so it comes out as ``truncated`` and
    ``info["episode_end"]`` says ``env_terminated``; an environment that terminates on success thus
    still shows *when*, and should be made without that for a result that claims no ground truth.

    Args:
        env: The environment.
        source: What answers: a model in this process or a client of a node. It stays open.
        instruction: See ``TaskFinder``.
        cameras: See ``Cameras``.
        goal: See ``TaskFinder``.
        demo: See ``TaskFinder``.
        camera_stream: Names of camera nodes that push frames to the reward node on their own; the
            wrapper then asks by time and takes no frames itself.
        scene: Where the scene state is published for camera nodes that follow this simulator.
        veto: Proprioceptive veto on the model's done.
        listeners: Called with (question, score, action) for every score.
        env_index: Index of this environment at the source; the next free one when ``None``.
        config: Where the options start from.
        **options: Fields of ``RewardConfig``; ``shaping`` may be the name of a preset.

    Raises:
        ConfigError: An option is wrong, or the environment gives no frames.

    Example:
        >>> env = VisualReward(env, source, instruction="push the red cube")  # doctest: +SKIP
        >>> observation, info = env.reset(seed=0)                             # doctest: +SKIP
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        source: Source,
        *,
        instruction: Instruction = None,
        cameras: Mapping[str, View] | None = None,
        goal: Goal = None,
        demo: Demo = (),
        camera_stream: Sequence[str] = (),
        scene: SceneSink | None = None,
        veto: Veto | None = None,
        listeners: Sequence[Listener] = (),
        env_index: int | None = None,
        config: RewardConfig | None = None,
        **options: Any,
    ) -> None:
        super().__init__(env)
        self.config = RewardConfig.of(config, options)
        if camera_stream and cameras:
            raise ConfigError("give cameras or camera_stream, not both")
        if scene is not None and not camera_stream:
            raise ConfigError("scene needs camera_stream: the names of the cameras that follow it")
        self.cameras = None if camera_stream else Cameras(cameras, env=env)
        self.scene = scene
        self._followed: FollowedEnv | None = followed(env) if scene is not None else None
        self.session = RewardSession(
            source,
            config=self.config,
            cameras=self.cameras.names if self.cameras else tuple(camera_stream),
            first_env=claim_envs(source) if env_index is None else env_index,
            stream=self.cameras is None,
            listeners=listeners,
        )
        self._tasks = TaskFinder(instruction, goal, demo)
        self._veto = veto
        self._sequence = 0
        self._declared = False
        self._info: dict[str, Any] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and ask about its first frame.

        Raises:
            InstructionError: Nobody says what the robot should do.
            PeerUnreachable: The source did not answer for as long as the patience.
        """
        observation, raw = self.env.reset(seed=seed, options=options)
        self._declared = False
        self._info = with_instruction(dict(raw), self.env)
        task = self._tasks.find(self._info)
        self.session.begin(0, self._moment(observation, asked=True, reset=True), task=task)
        self.session.flush()
        info = without_truth(self._info, self.config.truth_keys)
        info["instruction"] = task.instruction
        info["done_owner"] = self.config.done_owner
        info["reward_model"] = self.session.desk.info().model
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment; see the class for what comes back in which mode.

        Raises:
            RewardLost: Scores stayed away for longer than the patience, or too many of them.
        """
        observation, reward, terminated, truncated, raw = self.env.step(action)
        self._info = with_instruction(dict(raw), self.env)
        facts = StepFacts(
            action=action,
            reward=float(reward),
            terminated=bool(terminated),
            truncated=bool(truncated),
            declared=self._declared and self.config.done_owner == "human",
        )
        self._declared = False
        ends = facts.terminated or facts.truncated or facts.declared
        task = self._tasks.find(self._info)
        changed = task is not self.session.task_of(0)
        asked = ends or changed or self.session.due(0)
        key = self.session.step(0, self._moment(observation, asked=asked), facts=facts)
        if changed and not ends:
            # The action was chosen under the old task and is scored under it; the next one is not.
            self.session.change_task(0, task)
        self.session.flush()
        return observation, *self._answer(key, facts, self.session.drain())

    def set_task(self, instruction: Instruction, *, goal: Goal = None, demo: Demo = ()) -> None:
        """Change what the robot should do, from the next step on.

        ``None`` goes back to what the environment says.

        The state that was scored last is scored again under the new task, so that no difference is
        ever taken between two tasks.
        """
        self._tasks.set(instruction, goal=goal, demo=demo)
        if self._info:
            self.session.change_task(0, self._tasks.find(self._info))

    def declare_done(self) -> None:
        """Say, as the person who owns done, that the next step reaches the goal."""
        if self.config.done_owner != "human":
            raise ConfigError(f"done_owner is {self.config.done_owner!r}; a person has no say here")
        self._declared = True

    def settle(self) -> tuple[RewardRecord, ...]:
        """Wait for every reward that is still open and return those that came."""
        self.session.flush()
        return tuple(self.session.drain(wait="all"))

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
        """Close the environment; open questions are given up, the source stays open."""
        self.session.close()
        super().close()

    def _moment(self, observation: Any, *, asked: bool, reset: bool = False) -> Moment:
        wall_ns = time.time_ns()
        vetoed = bool(self._veto and self._veto(observation, self._info))
        if self.scene is not None and self._followed is not None:
            episode, step = self.session.next_name(0, reset=reset)
            # The mark must ask for the very frame that will show this state.
            wall_ns = self.scene.publish(
                self._followed, env=self.session.first_env, episode=episode, step=step
            )
        if self.cameras is None or not asked:
            return Moment(wall_ns=wall_ns, asked=asked, vetoed=vetoed)
        self._sequence += 1
        frames = make_frames(
            self.cameras.take(self.env, observation),
            sequence=self._sequence,
            wall_ns=wall_ns,
            jpeg_quality=self.config.jpeg_quality,
        )
        return Moment(frames=frames, wall_ns=wall_ns, vetoed=vetoed)

    def _answer(
        self, key: tuple[int, int, int], facts: StepFacts, records: list[RewardRecord]
    ) -> tuple[float, bool, bool, dict[str, Any]]:
        own = next((record for record in records if record.key == key), None)
        late = tuple(record for record in records if record.key != key)
        terminated, truncated = self._ends(own, facts)
        info = without_truth(self._info, self.config.truth_keys)
        info.update(describe(own, key=key))
        if late or self.config.mode != "sync":
            info["late_rewards"] = late
        if terminated or truncated:
            info["episode_end"] = self.session.end_of(0)
        episodes = self.session.take_summaries()
        if episodes:
            info["reward_episodes"] = tuple(episodes)
        return (own.reward if own else math.nan), terminated, truncated, info

    def _ends(self, own: RewardRecord | None, facts: StepFacts) -> tuple[bool, bool]:
        owner = self.config.done_owner
        if owner == "env":
            return facts.terminated, facts.truncated
        terminated = facts.declared if owner == "human" else bool(own and own.terminated)
        over = self.session.is_over(0)
        truncated = facts.truncated or ((facts.terminated or over) and not terminated)
        return terminated, truncated


def describe(own: RewardRecord | None, *, key: tuple[int, int, int]) -> dict[str, Any]:
    """Return what ``info`` says of the transition of this step."""
    said: dict[str, Any] = {
        "reward_for": key,
        "reward_status": own.status if own is not None else "pending",
    }
    if own is not None and own.score is not None:
        said["score"] = own.score.as_dict()
    if own is not None and own.terms is not None:
        said["reward_terms"] = own.terms.as_dict()
    return said
