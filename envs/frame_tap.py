"""``FrameTap``: takes the frames of one environment inside a vector environment.

A vector environment resets a finished environment before it returns, and asking it for images then
shows the next episode. The tap sits inside, takes the frame after every step, and passes it on in
``info["visual_reward"]``; the vector wrappers take it out again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import gymnasium

from robo_reward.errors import ConfigError

from .cameras import Cameras, View, make_frames
from .reward_config import RewardConfig
from .reward_episode import Moment
from .reward_wrapper import Veto
from .scene_stream import FollowedEnv, SceneSink, followed
from .task_finder import with_instruction

TAP = "visual_reward"
"""Key of ``info`` under which the tap passes on what it saw."""


class FrameTap(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Puts the frames of every asked step into ``info``; changes nothing else.

    Args:
        env: The environment.
        cameras: See ``Cameras``.
        stream: Camera nodes take the frames on their own; the tap only stamps the steps.
        scene: Where the state is published for camera nodes that follow this simulator; needs
            ``stream``, and the environment in the process of the publisher.
        veto: Proprioceptive veto on the model's done, called with observation and info.
        stride: Every how many steps frames are taken, and at the end of every episode.

    Example:
        >>> tapped = FrameTap(env, cameras={"front": "front_image"})  # doctest: +SKIP
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        *,
        cameras: Mapping[str, View] | None = None,
        stream: bool = False,
        scene: SceneSink | None = None,
        veto: Veto | None = None,
        stride: int = 1,
    ) -> None:
        super().__init__(env)
        if stride < 1:
            raise ConfigError(f"stride must be >= 1, got {stride}")
        if scene is not None and not stream:
            raise ConfigError("scene needs stream=True: the frames are taken elsewhere")
        self.cameras = None if stream else Cameras(cameras, env=env)
        self.scene = scene
        self.scene_env = 0
        self._followed: FollowedEnv | None = followed(env) if scene is not None else None
        self._episode = -1
        self._step = 0
        self.tap_stride = stride
        self.reset_next = False
        self._veto = veto
        self._since = 0
        self._instruction: Any = None

    @property
    def tap_cameras(self) -> tuple[str, ...]:
        """Names of the cameras, in order; empty in stream mode."""
        return self.cameras.names if self.cameras else ()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset; the frames of the first state are in ``info``."""
        observation, raw = self.env.reset(seed=seed, options=options)
        self.reset_next = False
        self._episode += 1
        self._step = 0
        info = with_instruction(dict(raw), self.env)
        self._instruction = info.get("instruction")
        info[TAP] = self._look(observation, info, asked=True)
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step; the frames of the state after it are in ``info`` where the model is to be asked.

        Where a vector wrapper has set ``reset_next``, the environment is reset in place of the
        step, as Gymnasium's NEXT_STEP does with an environment that ended by itself.
        """
        if self.reset_next:
            observation, info = self.reset()
            return observation, 0.0, False, False, info
        observation, reward, terminated, truncated, raw = self.env.step(action)
        info = with_instruction(dict(raw), self.env)
        self._since += 1
        self._step += 1
        changed = info.get("instruction") != self._instruction
        self._instruction = info.get("instruction")
        asked = terminated or truncated or changed or self._since >= self.tap_stride
        info[TAP] = self._look(observation, info, asked=asked)
        return observation, float(reward), bool(terminated), bool(truncated), info

    def name_scene(self, env: int) -> None:
        """Say which index the scene of this environment carries; the vector wrappers call this."""
        self.scene_env = env

    def _look(self, observation: Any, info: dict[str, Any], *, asked: bool) -> dict[str, Any]:
        wall_ns = time.time_ns()
        if self.scene is not None and self._followed is not None:
            wall_ns = self.scene.publish(
                self._followed, env=self.scene_env, episode=self._episode, step=self._step
            )
        seen: dict[str, Any] = {
            "wall_ns": wall_ns,
            "asked": asked,
            "vetoed": bool(self._veto and self._veto(observation, info)),
        }
        if asked:
            self._since = 0
            if self.cameras is not None:
                seen["frames"] = self.cameras.take(self.env, observation)
        return seen


def read_tap(seen: Mapping[str, Any] | None, *, sequence: int, config: RewardConfig) -> Moment:
    """Turn what a tap passed on into a moment.

    Raises:
        ConfigError: There is no tap in this environment.
    """
    if seen is None:
        raise ConfigError(
            "no frames in info: a vector environment resets before it returns, so that the last "
            "frame of an episode must be taken inside; make it with FrameTap around each "
            "environment (wrapper_class=FrameTap in Stable-Baselines3, wrappers=[FrameTap] in "
            "gymnasium.make_vec)"
        )
    wall_ns = int(seen["wall_ns"])
    frames = make_frames(
        seen.get("frames") or {},
        sequence=sequence,
        wall_ns=wall_ns,
        jpeg_quality=config.jpeg_quality,
    )
    return Moment(
        frames=frames, wall_ns=wall_ns, asked=bool(seen["asked"]), vetoed=bool(seen["vetoed"])
    )


def check_stride(tapped: int, *, wanted: int) -> None:
    """Refuse a tap that looks at another stride than the one that is asked at."""
    if tapped != wanted:
        raise ConfigError(
            f"the taps take frames every {tapped} steps and stride is {wanted}; give the same "
            "stride to FrameTap and to the wrapper"
        )
