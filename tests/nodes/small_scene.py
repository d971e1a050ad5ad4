"""A scene that can be followed and needs no simulator: its picture says which state it shows."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

SCENE = "tests.nodes.small_scene:SmallScene-v0"


class SmallScene(gymnasium.Env[NDArray[np.float64], np.int64]):
    """Red is the count of the steps, green the scene's colour, blue is 9."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(self, *, render_mode: str = "rgb_array", size: int = 16) -> None:
        self.render_mode = render_mode
        self.action_space = gymnasium.spaces.Discrete(2)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
        self.size = size
        self.colour = 0
        self.count = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        super().reset(seed=seed)
        self.colour = int(self.np_random.integers(0, 256))
        self.count = 0
        return self.scene_state(), {}

    def step(
        self, action: np.int64 | int
    ) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        self.count += 1
        return self.scene_state(), 0.0, False, self.count >= 200, {}

    def render(self) -> NDArray[np.uint8]:
        image = np.zeros((self.size, self.size, 3), np.uint8)
        image[:] = (self.count % 256, self.colour, 9)
        return image

    def scene_config(self) -> bytes:
        return bytes([self.colour])

    def scene_state(self) -> NDArray[np.float64]:
        return np.array([self.count], np.float64)

    def load_scene(self, config: bytes) -> None:
        self.colour = config[0]

    def load_state(self, state: NDArray[np.float64]) -> None:
        if state.shape != (1,):
            raise ValueError("a state has one value")
        self.count = int(state[0])


def make(**options: Any) -> SmallScene:
    return SmallScene(**options)


gymnasium.register("SmallScene-v0", entry_point=make)
