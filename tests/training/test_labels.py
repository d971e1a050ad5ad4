"""Training labels against the picture itself, losses against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from robo_reward.envs.experts.record import roll_out  # noqa: E402
from robo_reward.envs.tabletop.env import TabletopEnv  # noqa: E402
from robo_reward.envs.tabletop.goal import Goal  # noqa: E402
from robo_reward.envs.tabletop.instructions import names_something_here  # noqa: E402
from robo_reward.envs.tabletop.randomise import sample_scene  # noqa: E402
from robo_reward.envs.tabletop.spec import CameraSpec, ObjectSpec, SceneSpec  # noqa: E402
from robo_reward.models.compact_network import bin_centres  # noqa: E402
from robo_reward.training.augment import augment  # noqa: E402
from robo_reward.training.labels import (  # noqa: E402
    absent,
    judged_goals,
    label,
)
from robo_reward.training.losses import hl_gauss, pointer_loss  # noqa: E402


@pytest.mark.parametrize("azimuth", [-30.0, 0.0, 25.0])
def test_points_are_where_the_picture_shows_them(azimuth: float) -> None:
    camera = CameraSpec(azimuth=azimuth, elevation=45.0, fovy=43.0)
    spec = SceneSpec(
        objects=(ObjectSpec(shape="ball", colour="red", position=(0.45, 0.1, 0.027)),),
        cameras={"front": camera},
    )
    env = TabletopEnv("reach", render_mode="rgb_array", image_size=96)
    goal = Goal(family="reach", target=0)
    env.reset(options={"scene": spec, "goal": goal})
    image = env.images()["front"].astype(int)
    rows, columns = np.nonzero((image[..., 0] > 90) & (image[..., 1:].max(-1) < 70))
    seen = (np.array([columns.mean(), rows.mean()]) + 0.5) / 48 - 1
    point = label(env.facts(), spec, goal, camera="front").points[0]
    env.close()
    np.testing.assert_allclose(point, seen, atol=0.03)


def test_labels_of_drawers_include_what_holds_from_the_start() -> None:
    spec, _ = sample_scene("close_drawer", rng=np.random.default_rng(0))
    env = TabletopEnv("close_drawer")
    env.reset(options={"scene": spec, "goal": judged_goals(spec)[0]})
    facts = env.facts()
    opened = [
        label(facts, spec, goal, camera="front").done
        for goal in judged_goals(spec)
        if goal.family == "open_drawer"
    ]
    env.close()
    assert len(opened) == 2
    assert any(opened)


def test_an_instruction_about_nothing_here_is_worth_nothing() -> None:
    rng = np.random.default_rng(0)
    button, goal = sample_scene("press_button", rng=rng)
    table, _ = sample_scene("push", rng=rng)
    assert not names_something_here(goal, button, table)
    assert names_something_here(goal, button, button)
    env = TabletopEnv("push")
    env.reset(options={"scene": table, "goal": judged_goals(table)[0]})
    nothing = absent(env.facts(), table, camera="front")
    env.close()
    assert (nothing.progress, nothing.done) == (0.0, False)
    assert np.isnan(nothing.points[:2]).all()
    assert np.isfinite(nothing.points[2]).all()


def test_judging_a_stored_row_is_judging_the_moment() -> None:
    env = TabletopEnv("lift")
    rollout = roll_out(env, seed=1, kind="expert", images=False)
    progress, success = rollout.judge(rollout.goal)
    assert progress[-1] == pytest.approx(env.progress(), abs=1e-4)
    assert success[-1]
    env.close()


def test_hl_gauss_keeps_the_mean() -> None:
    centres = bin_centres(26)
    values = torch.linspace(0.1, 0.9, 17)
    soft = hl_gauss(values, centres, 0.03)
    np.testing.assert_allclose(soft.sum(-1), 1.0, atol=1e-6)
    np.testing.assert_allclose((soft * centres).sum(-1), values, atol=2e-3)


def test_pointer_loss_is_least_at_the_point_and_ignores_what_is_unknown() -> None:
    line = (torch.arange(4) + 0.5) / 2 - 1
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    grid = torch.stack([columns.flatten(), rows.flatten()], 1)
    points = torch.full((1, 3, 2), float("nan"))
    points[0, 0] = grid[5]
    right, wrong = torch.zeros(1, 3, 16), torch.zeros(1, 3, 16)
    right[0, 0, 5] = wrong[0, 0, 10] = 8.0
    assert pointer_loss(right, points, grid, 0.3) < pointer_loss(wrong, points, grid, 0.3)
    wrong[0, 1] = 100.0
    wrong[0, 0] = right[0, 0]
    same = pointer_loss(wrong, points, grid, 0.3)
    assert same == pytest.approx(float(pointer_loss(right, points, grid, 0.3)))


def test_augmentation_moves_points_with_the_picture() -> None:
    image = np.zeros((2, 96, 96, 3), np.uint8)
    image[:, 40:44, 60:64] = 255
    for seed in range(12):
        varied, shift = augment(image, np.random.default_rng(seed))
        bright = varied[0].mean(-1)
        rows, columns = np.nonzero(bright > (bright.max() + bright.mean()) / 2)
        moved = np.array([columns.mean() - 61.5, rows.mean() - 41.5]) * 2 / 96
        np.testing.assert_allclose(moved, shift, atol=0.03)
