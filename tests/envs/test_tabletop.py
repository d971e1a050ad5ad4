"""The table-top suite: contracts with Gymnasium and SB3, repeatability, splits, pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import robo_reward.envs as suite
from robo_reward.envs import ENV_IDS, TabletopEnv
from robo_reward.envs.experts.expert import PlanFollower
from robo_reward.envs.experts.plan import Aim, plan_for
from robo_reward.envs.tabletop.goal import HELD_STEPS
from robo_reward.envs.tabletop.instructions import (
    HELD_OUT_WORDINGS,
    SHAPE_WORDS,
    WORDINGS,
    every_wording,
    instruct,
)
from robo_reward.envs.tabletop.randomise import (
    SEEN_AZIMUTHS,
    UNSEEN_AZIMUTHS,
    UNSEEN_PAIRS,
    sample_scene,
)
from robo_reward.envs.tabletop.spec import COLOURS, ObjectSpec, SceneSpec
from robo_reward.envs.tabletop.tasks import FAMILIES, all_goals, family_of
from robo_reward.errors import ConfigError


@pytest.fixture
def env() -> Iterator[TabletopEnv]:
    made = TabletopEnv("pick_place", render_mode="rgb_array", cameras=("front", "side"))
    yield made
    made.close()


@pytest.mark.parametrize("name", sorted(ENV_IDS))
def test_gymnasium_accepts_it(name: str) -> None:
    env = gym.make(name)
    # The checker's advice on spaces is not a failure; its errors are.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_sb3_accepts_it() -> None:
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    env = TabletopEnv("all", render_mode="rgb_array")
    sb3.check_env(env, warn=False)
    env.close()


def test_a_seed_gives_the_same_episode_again(env: TabletopEnv) -> None:
    runs = []
    for _ in range(2):
        observation, info = env.reset(seed=5)
        rng = np.random.default_rng(0)
        for _ in range(12):
            observation, *_ = env.step(rng.uniform(-1, 1, 4).astype(np.float32))
        runs.append((observation, info["instruction"], env.images()))
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    for camera in ("front", "side"):
        np.testing.assert_array_equal(runs[0][2][camera], runs[1][2][camera])


def test_another_seed_gives_another_episode(env: TabletopEnv) -> None:
    first, _ = env.reset(seed=1)
    second, _ = env.reset(seed=2)
    assert not np.allclose(first, second)


def test_the_camera_process_shows_the_same_picture(env: TabletopEnv) -> None:
    """What another process renders from config and state is what this one sees."""
    env.reset(seed=3)
    for _ in range(8):
        env.step(np.array([0.5, 0.3, -0.9, 1.0], np.float32))
    follower = TabletopEnv("reach", render_mode="rgb_array", cameras=("front", "side"))
    follower.load_scene(env.scene_config())
    follower.load_state(env.scene_state())
    for camera, image in env.images().items():
        difference = np.abs(image.astype(int) - follower.images()[camera])
        assert difference.max() <= 2, camera
    follower.close()


def test_a_pressed_button_shows_in_the_followed_scene() -> None:
    env = TabletopEnv("press_button", render_mode="rgb_array")
    env.reset(seed=0)
    before = env.images()["front"]
    state = env.scene_state()
    state[-2:] = 1.0
    env.load_state(state)
    assert np.abs(env.images()["front"].astype(int) - before).max() > 60
    env.close()


@pytest.mark.parametrize("split", ["train", "seen"])
def test_new_pairs_and_cameras_are_in_no_training_scene(split: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        for family in FAMILIES:
            spec, _ = sample_scene(family, rng=rng, split=split)  # type: ignore[arg-type]
            assert not _pairs(spec) & UNSEEN_PAIRS
            assert _in_bands(spec.cameras["front"].azimuth, SEEN_AZIMUTHS)


def test_an_unseen_goal_is_about_a_new_pair_under_a_new_camera() -> None:
    rng = np.random.default_rng(0)
    for _ in range(15):
        for family in FAMILIES:
            spec, goal = sample_scene(family, rng=rng, split="unseen")
            assert _in_bands(spec.cameras["front"].azimuth, UNSEEN_AZIMUTHS)
            fixture = family_of(family).fixture
            if fixture == "none":
                item = spec.objects[goal.target]
                assert (item.shape, item.colour) in UNSEEN_PAIRS
            else:
                assert (fixture, spec.fixture.colours[goal.target]) in UNSEEN_PAIRS


def test_every_thing_and_colour_of_a_new_pair_is_seen_alone() -> None:
    for thing, colour in UNSEEN_PAIRS:
        others = [pair for pair in UNSEEN_PAIRS if pair[0] == thing]
        assert len(others) < len(COLOURS)
        assert any((other, colour) not in UNSEEN_PAIRS for other in ("cube", "ball", "cylinder"))


def test_no_goal_is_reached_at_the_start() -> None:
    env = TabletopEnv("all")
    for seed in range(60):
        _, info = env.reset(seed=seed)
        assert not info["success"], info["instruction"]
        assert env.progress() < 0.85
    env.close()


def test_held_out_wordings_are_in_no_training_sentence() -> None:
    rng = np.random.default_rng(0)
    for family in FAMILIES:
        assert not set(WORDINGS[family]) & set(HELD_OUT_WORDINGS[family])
        spec, goal = sample_scene(family, rng=rng)
        said, kept = every_wording(goal, spec), every_wording(goal, spec, held_out=True)
        assert not set(said) & set(kept)
        assert not any("{" in text for text in said + kept)


def test_goals_of_a_scene_are_told_apart_by_their_sentences() -> None:
    rng = np.random.default_rng(1)
    for family in FAMILIES:
        spec, _ = sample_scene(family, rng=rng)
        said = [(goal.family, every_wording(goal, spec)[0]) for goal in all_goals(spec)]
        assert len(set(said)) == len(said)


def test_a_colour_or_a_shape_alone_names_one_object_only() -> None:
    shapes = {word: shape for shape, words in SHAPE_WORDS.items() for word in words}
    short = 0
    for number in range(200):
        rng = np.random.default_rng(number)
        spec, goal = sample_scene("reach", rng=rng)
        words = instruct(goal, spec, rng=rng, partial=1.0).split()
        colours = [word for word in words if word in COLOURS]
        named = [shapes[word] for word in words if word in shapes]
        meant = [
            one
            for one in spec.objects
            if (not colours or one.colour in colours) and (not named or one.shape in named)
        ]
        assert meant == [spec.objects[goal.target]]
        short += not (colours and named)
    assert short > 150
    spec, goal = sample_scene("reach", rng=np.random.default_rng(0))
    full = instruct(goal, spec, rng=np.random.default_rng(1), partial=0.0)
    assert full == instruct(goal, spec, rng=np.random.default_rng(1))  # no draw is spent on it


def test_the_simulator_ends_an_episode_when_success_has_lasted() -> None:
    env = TabletopEnv("press_button", looks=False, terminate_on_success=True)
    rng = np.random.default_rng(3)
    env.reset(seed=3)
    expert = PlanFollower(plan_for(Aim(spec=env.spec_of_scene, goal=env.goal)), rng=rng)
    held = []
    for _ in range(60):
        _, _, ended, _, info = env.step(expert.act(env.facts()).astype(np.float32))
        held.append(info["success"])
        if ended:
            break
    assert ended
    assert held[-HELD_STEPS:] == [True] * HELD_STEPS
    assert not any(held[:-HELD_STEPS])
    env.reset()
    assert not env.step(np.zeros(4, np.float32))[2]


def test_a_scene_can_be_set(env: TabletopEnv) -> None:
    spec, goal = sample_scene("pick_place", rng=np.random.default_rng(0))
    _, info = env.reset(options={"scene": spec, "goal": goal, "instruction": "do it"})
    assert info["instruction"] == "do it"
    assert SceneSpec.from_bytes(env.scene_config()) == spec


def test_rays_need_no_opengl_and_show_colours() -> None:
    """Without looks the ray picture of a red cube has red pixels where OpenGL has them."""
    spec = SceneSpec(objects=(ObjectSpec(shape="cube", colour="red", position=(0.4, 0.1, 0.024)),))
    reddish = []
    for renderer in ("rays", "gl"):
        env = TabletopEnv("reach", renderer=renderer, render_mode="rgb_array", looks=False)
        env.reset(options={"scene": spec, "goal": family_of("reach").goals(spec)[0]})
        image = env.images()["front"].astype(int)
        rows, columns = np.nonzero((image[..., 0] > 90) & (image[..., 1:].max(-1) < 60))
        reddish.append((rows.mean(), columns.mean()))
        env.close()
    np.testing.assert_allclose(reddish[0], reddish[1], atol=1.5)


def test_observations_of_proprioception_hold_nothing_of_the_scene() -> None:
    env = TabletopEnv("pick_place", observation="proprio")
    seen = []
    for x in (0.3, 0.45):
        cube = ObjectSpec(shape="cube", colour="red", position=(x, -0.15, 0.024))
        spec = SceneSpec(objects=(cube,), grip=(0.33, 0.0, 0.2))
        observation, _ = env.reset(
            options={"scene": spec, "goal": family_of("reach").goals(spec)[0]}
        )
        seen.append(observation)
    np.testing.assert_array_equal(seen[0], seen[1])
    env.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"family": "juggle"}, "known: close_drawer"),
        ({"cameras": ("roof",)}, "cameras must be among"),
        ({"observation": "truth"}, "observation must be"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TabletopEnv(**options)  # type: ignore[arg-type]


def test_without_a_render_mode_there_is_no_picture() -> None:
    env = TabletopEnv("reach")
    env.reset(seed=0)
    assert env.render() is None
    assert "TabletopEnv" in dir(suite) or suite.TabletopEnv is TabletopEnv
    env.close()


def _pairs(spec: SceneSpec) -> set[tuple[str, str]]:
    pairs = {(item.shape, item.colour) for item in spec.objects}
    pairs |= {("pad", pad.colour) for pad in spec.pads}
    if spec.fixture.kind != "none":
        pairs |= {(spec.fixture.kind, colour) for colour in spec.fixture.colours}
    return pairs


def _in_bands(azimuth: float, bands: tuple[tuple[float, float], ...]) -> bool:
    return any(low <= azimuth <= high for low, high in bands)
