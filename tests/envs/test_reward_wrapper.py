from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import PassiveEnvChecker

from robo_reward.client.source import ModelInfo
from robo_reward.envs.cameras import OBSERVATION
from robo_reward.envs.reward_config import RewardConfig
from robo_reward.envs.reward_wrapper import VisualReward
from robo_reward.errors import (
    ConfigError,
    InstructionError,
    PeerUnreachable,
    RewardLost,
    TransportError,
)
from robo_reward.models.oracle_pixels import paint
from robo_reward.query import Mark, Query
from robo_reward.shaping import GateConfig, ShapingConfig
from robo_reward.signals import SIGNALS
from tests.envs.pixel_world import (
    INSTRUCTION,
    Answer,
    FailingSource,
    ForeignSource,
    PixelEnv,
    PixelSource,
    code,
    delta,
)

RAW = ShapingConfig(form="delta", kappa=1.0, sparse=False)
QUICK_GATE = GateConfig(votes=1, window=1, dwell=1)
ACTION = np.zeros(1, np.float32)


def wrap(env: gymnasium.Env[Any, Any], source: PixelSource, **options: Any) -> VisualReward:
    options = {"instruction": INSTRUCTION, "shaping": RAW, **options}
    return VisualReward(env, source, **options)


def play(env: VisualReward) -> list[tuple[float, bool, bool, dict[str, Any]]]:
    env.reset()
    rows = []
    for _ in range(1000):
        _, reward, terminated, truncated, info = env.step(ACTION)
        rows.append((reward, terminated, truncated, info))
        if terminated or truncated:
            break
    return rows


def test_each_step_gets_the_reward_of_its_own_frame() -> None:
    env = wrap(PixelEnv(), PixelSource())
    for episode in range(3):
        for step, (reward, _, _, info) in enumerate(play(env), start=1):
            assert reward == pytest.approx(delta(0, episode, step), abs=1e-6)
            assert info["reward_for"] == (0, episode, step)
            assert info["reward_status"] == "ok"
            assert info["score"]["identity"]["step"] == step
            assert info["reward_terms"]["total"] == reward
            assert info["note"] == step
            assert "late_rewards" not in info


def test_checkers_accept_the_wrapped_environment() -> None:
    from stable_baselines3.common.env_checker import check_env as check_sb3

    source = PixelSource()
    check_sb3(wrap(PixelEnv(), source))
    # check_env compares infos for equality; ours name the episode, which never repeats.
    checked = gymnasium.wrappers.OrderEnforcing(PassiveEnvChecker(wrap(PixelEnv(), source)))
    checked.reset(seed=1)
    assert checked.step(ACTION)[4]["reward_status"] == "ok"


def test_default_is_potential_with_sparse() -> None:
    rows = play(wrap(PixelEnv(), PixelSource(), shaping="potential"))
    expected = -1 + 100 * (0.99 * code(0, 0, 1) - code(0, 0, 0))
    assert rows[0][0] == pytest.approx(expected, abs=1e-4)


def test_episode_sum_telescopes() -> None:
    rows = play(wrap(PixelEnv(horizon=50), PixelSource()))
    total = sum(row[0] for row in rows)
    assert total == pytest.approx(code(0, 0, 50) - code(0, 0, 0), abs=1e-4)


def test_first_query_has_no_reference_and_each_other_one_the_query_before() -> None:
    source = PixelSource()
    play(wrap(PixelEnv(horizon=4), source))
    queries = [query for query in source.asked if isinstance(query, Query)]
    assert [query.step for query in queries] == [0, 1, 2, 3, 4]
    assert queries[0].reference == ()
    for before, after in itertools.pairwise(queries):
        assert [f.id for f in after.reference] == [f.id for f in before.newest]


def test_truth_stays_out() -> None:
    env = wrap(PixelEnv(), PixelSource(), truth_keys=("success", "is_success", "note"))
    _, info = env.reset()
    assert "success" not in info
    assert info["done_owner"] == "model"
    assert info["instruction"] == INSTRUCTION
    _, _, _, _, info = env.step(ACTION)
    assert not {"success", "is_success", "note"} & set(info)


def test_model_s_done_ends_the_episode_through_the_gate() -> None:
    env = wrap(PixelEnv(done_at=3, horizon=20), PixelSource(), shaping="sparse")
    rows = play(env)
    # Sure at 3, 4, 5 gives the votes, 6 the dwell.
    assert [row[0] for row in rows] == [-1.0] * 5 + [0.0]
    assert (rows[-1][1], rows[-1][2]) == (True, False)
    assert rows[-1][3]["episode_end"] == "done:model"
    assert rows[-1][3]["reward_episodes"][0].total == -5.0


class Calibrated(PixelSource):
    """A source whose model has operating points of its own."""

    def info(self) -> ModelInfo:
        gates = {"": QUICK_GATE, INSTRUCTION: GateConfig(votes=2, window=2, dwell=1)}
        return replace(super().info(), gates=gates)


def test_the_calibrated_operating_point_is_used_unless_another_is_set() -> None:
    world = PixelEnv(done_at=3, horizon=20)
    assert len(play(wrap(world, Calibrated()))) == 4  # that of its own instruction
    other = wrap(world, Calibrated(), instruction="something else")
    assert len(play(other)) == 3
    assert len(play(wrap(world, Calibrated(), gate=GateConfig()))) == 6


def test_veto_keeps_the_episode_going() -> None:
    env = wrap(
        PixelEnv(done_at=1, horizon=9),
        PixelSource(),
        gate=QUICK_GATE,
        veto=lambda observation, info: bool(observation[2] < 4),
    )
    assert len(play(env)) == 4


def test_environment_s_own_termination_comes_out_as_truncation() -> None:
    env = wrap(PixelEnv(terminate_at=3), PixelSource())
    rows = play(env)
    assert len(rows) == 3
    assert (rows[-1][1], rows[-1][2]) == (False, True)
    assert rows[-1][3]["episode_end"] == "env_terminated"
    assert env.stats()["env_terminated"] == 1


def test_environment_may_own_done() -> None:
    rows = play(wrap(PixelEnv(terminate_at=3), PixelSource(), done_owner="env", shaping="sparse"))
    assert [row[0] for row in rows] == [-1.0, -1.0, 0.0]
    assert (rows[-1][1], rows[-1][3]["episode_end"]) == (True, "done:env")


def test_a_person_may_own_done() -> None:
    env = wrap(PixelEnv(terminate_at=8), PixelSource(), done_owner="human", shaping="sparse")
    env.reset()
    assert env.step(ACTION)[1:4] == (-1.0, False, False)
    env.declare_done()
    _, reward, terminated, truncated, info = env.step(ACTION)
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert info["episode_end"] == "done:human"
    with pytest.raises(ConfigError, match="no say"):
        wrap(PixelEnv(), PixelSource()).declare_done()


def test_a_time_out_keeps_the_potential_of_its_last_state() -> None:
    rows = play(wrap(PixelEnv(horizon=3), PixelSource(), shaping="potential"))
    assert rows[-1][2]
    assert rows[-1][3]["reward_terms"]["potential"] == pytest.approx(code(0, 0, 3), abs=1e-6)


def test_stride_asks_every_nth_step_and_at_the_end() -> None:
    source = PixelSource()
    base = PixelEnv(horizon=10)
    rows = play(wrap(base, source, stride=4))
    assert [query.step for query in source.asked] == [0, 4, 8, 10]
    assert base.rendered == 4
    expected = {4: delta(0, 0, 4, span=4), 8: delta(0, 0, 8, span=4), 10: delta(0, 0, 10, span=2)}
    for step, row in enumerate(rows, start=1):
        assert row[0] == pytest.approx(expected.get(step, 0.0), abs=1e-6)
        assert row[3]["reward_status"] == "ok"


def test_spread_pays_each_step_its_share_late() -> None:
    shaping = ShapingConfig(form="delta", kappa=1.0, sparse=False, spread=True)
    with pytest.raises(ConfigError, match="spread"):
        wrap(PixelEnv(), PixelSource(), stride=4, shaping=shaping)
    env = wrap(PixelEnv(horizon=10), PixelSource(), stride=4, shaping=shaping, mode="pipelined")
    rows = play(env)
    late = [record for row in rows for record in row[3]["late_rewards"]] + list(env.settle())
    got = {record.step: record.reward for record in late if record.known}
    got |= {i: row[0] for i, row in enumerate(rows, start=1) if not math.isnan(row[0])}
    assert sorted(got) == list(range(1, 11))
    for step, (end, span) in {1: (4, 4), 4: (4, 4), 6: (8, 4), 9: (10, 2), 10: (10, 2)}.items():
        assert got[step] == pytest.approx(delta(0, 0, end, span=span) / span, abs=1e-6)


def test_cameras_may_be_observation_keys_and_callables() -> None:
    source = PixelSource()
    views: dict[str, str | Callable[[Any], Any]] = {
        "front": "front",
        "side": lambda env: env.unwrapped.picture(),
    }
    base = PixelEnv(dict_obs=True, render_mode=None)
    env = wrap(base, source, cameras=views)
    assert play(env)[0][0] == pytest.approx(delta(0, 0, 1), abs=1e-6)
    first = source.asked[0]
    assert isinstance(first, Query)
    assert [frame.header.camera for frame in first.newest] == ["front", "side"]


def test_a_model_of_one_view_is_asked_once_per_camera_and_the_least_done_counts() -> None:
    source = PixelSource(max_views=1)
    blind = {"front": "front", "blind": lambda env: paint(code(0, 0, 0), 0.0, salt=7)}
    env = wrap(
        PixelEnv(dict_obs=True, done_at=1, horizon=6), source, cameras=blind, gate=QUICK_GATE
    )
    rows = play(env)
    assert len(rows) == 6
    assert len(source.asked) == 2 * 7
    assert rows[0][3]["score"]["signals"]["done"] == 0.0
    assert rows[0][0] == pytest.approx(delta(0, 0, 1) / 2, abs=1e-6)


def test_frames_are_copies_of_a_buffer_that_the_renderer_reuses() -> None:
    class Reusing(PixelEnv):
        buffer = np.zeros((8, 8, 3), np.uint8)

        def render(self) -> Any:
            self.buffer[:] = self.picture()
            return self.buffer

    source = PixelSource()
    play(wrap(Reusing(horizon=3), source))
    first = source.asked[0]
    assert isinstance(first, Query)
    assert first.newest[0].image[0, 0, 0] == round(code(0, 0, 0) * 255)


@pytest.mark.parametrize(
    ("env", "options", "says"),
    [
        (PixelEnv(render_mode=None), {}, r"render_mode=\"rgb_array\".*cameras=.*camera_stream="),
        (PixelEnv(), {"cameras": {"a": "nowhere"}}, "no key 'nowhere'"),
        (PixelEnv(), {"cameras": {"a": lambda env: None}}, "returned nothing"),
        (PixelEnv(), {"cameras": {"a": OBSERVATION}}, "uint8 RGB"),
        (PixelEnv(), {"cameras": {"a": lambda env: np.zeros((4, 4, 3))}}, "float64"),
        (PixelEnv(), {"mode": "lazy"}, "mode must be one of"),
        (PixelEnv(), {"strid": 3}, "did you mean stride"),
        (PixelEnv(), {"shaping": "sparce"}, "did you mean sparse"),
        (PixelEnv(), {"goal": paint(1, 1)}, "no goal image"),
        (PixelEnv(), {"camera_stream": ["a"], "cameras": {"a": OBSERVATION}}, "not both"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_do(
    env: PixelEnv, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        wrap(env, PixelSource(), **options).reset()


def test_a_model_without_the_signal_is_refused() -> None:
    source = PixelSource(signals=tuple(name for name in SIGNALS if name != "done"))
    with pytest.raises(ConfigError, match="does not give done"):
        wrap(PixelEnv(), source).reset()
    wrap(PixelEnv(), source, done_owner="env").reset()


def test_instruction_comes_from_caller_info_or_environment() -> None:
    source = PixelSource()
    base = PixelEnv()
    with pytest.raises(InstructionError, match="no instruction"):
        wrap(base, source, instruction=None).reset()
    base.instruction = "lift the blue ball"  # type: ignore[attr-defined]
    assert wrap(base, source, instruction=None).reset()[1]["instruction"] == "lift the blue ball"
    env = wrap(base, source, instruction=lambda info: info["instruction"].replace("blue", "red"))
    assert env.reset()[1]["instruction"] == "lift the red ball"
    with pytest.raises(InstructionError, match="empty"):
        wrap(base, source, instruction="   ").reset()


def test_a_task_that_changes_starts_its_own_differences() -> None:
    source = PixelSource()
    env = wrap(PixelEnv(), source, shaping=ShapingConfig(gamma=1.0, kappa=1.0, sparse=False))
    env.reset()
    env.step(ACTION)
    env.set_task("now pull the drawer")
    _, reward, _, _, _ = env.step(ACTION)
    asked = [(query.task.instruction, query.step) for query in source.asked]
    new = "now pull the drawer"
    assert asked == [(INSTRUCTION, 0), (INSTRUCTION, 1), (new, 1), (new, 2)]
    assert reward == pytest.approx(delta(0, 0, 2), abs=1e-6)
    env.set_task(INSTRUCTION)
    assert env.reset()[1]["instruction"] == INSTRUCTION


def test_a_step_is_scored_under_the_task_it_was_done_for() -> None:
    class Switching(PixelEnv):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            *rest, info = super().step(action)
            info["instruction"] = "first" if self.at < 3 else "second"
            return (*rest, info)

        def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
            observation, info = super().reset(**kwargs)
            return observation, {**info, "instruction": "first"}

    source = PixelSource()
    play(wrap(Switching(horizon=5), source, instruction=None, stride=2))
    asked = [(query.task.instruction, query.step) for query in source.asked]
    assert asked == [
        ("first", 0),
        ("first", 2),
        ("first", 3),
        ("second", 3),
        ("second", 5),
    ]


def test_an_outage_is_waited_out() -> None:
    fails = {3: 5}

    def reason(query: Any) -> str | None:
        fails[query.step] = fails.get(query.step, 0) - 1
        return "DEADLINE" if fails[query.step] >= 0 else None

    env = wrap(PixelEnv(), FailingSource(reason), patience_s=30.0)
    env.session.desk._sleep = lambda seconds: None
    for step, row in enumerate(play(env), start=1):
        assert row[0] == pytest.approx(delta(0, 0, step), abs=1e-6)
    assert env.stats()["retried"] == 5


def test_an_outage_that_outlasts_the_patience_stops_the_run() -> None:
    env = wrap(PixelEnv(), FailingSource(lambda query: "BUSY"), patience_s=5.0)
    now = [0.0]
    env.session.desk._clock = lambda: now[0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    env.session.desk._sleep = sleep
    env.reset()
    with pytest.raises(RewardLost, match=r"overloaded.*after 5 s"):
        env.step(ACTION)
    assert now[0] >= 5.0


def test_a_source_that_comes_up_late_is_waited_for() -> None:
    source = PixelSource()
    source.away = 3
    env = wrap(PixelEnv(), source)
    env.session.desk._sleep = lambda seconds: None
    env.reset()
    source.away = 3
    with pytest.raises(PeerUnreachable):
        wrap(PixelEnv(), source, on_missing="raise").reset()


def test_other_failures_are_nan_with_their_reason_and_take_both_neighbours() -> None:
    source = FailingSource(lambda query: "MODEL_ERROR" if query.step == 3 else None)
    shaping = ShapingConfig(gamma=1.0, kappa=1.0, sparse=False)
    env = wrap(PixelEnv(), source, shaping=shaping)
    rows = play(env)
    assert [math.isnan(row[0]) for row in rows] == [False, False, True, True] + [False] * 6
    assert rows[2][3]["score"]["reason"] == "MODEL_ERROR"
    assert [rows[i][3]["reward_status"] for i in (2, 3, 4)] == ["model_error", "model_error", "ok"]
    assert env.stats()["dropped"] == 2
    assert rows[-1][3]["reward_episodes"][0].missing == 2


def test_strict_choice_raises_at_once() -> None:
    source = FailingSource(lambda query: "ABSTAINED" if query.step == 2 else None)
    env = wrap(PixelEnv(), source, on_missing="raise")
    env.reset()
    env.step(ACTION)
    with pytest.raises(RewardLost, match="abstained"):
        env.step(ACTION)


def test_nan_choice_does_not_wait() -> None:
    source = FailingSource(lambda query: "DEADLINE" if query.step == 2 else None)
    env = wrap(PixelEnv(), source, on_missing="nan")
    rows = play(env)
    assert math.isnan(rows[1][0])
    assert "retried" not in env.stats()


def test_too_many_missing_scores_stop_the_run() -> None:
    source = FailingSource(lambda query: "MODEL_ERROR" if query.step % 2 else None)
    env = wrap(PixelEnv(horizon=500), source, max_missing=0.05, missing_window=200)
    env.reset()
    for _ in range(20):
        env.step(ACTION)
    with pytest.raises(RewardLost, match=r"11 of the last 22 scores are missing, at most 10 may"):
        env.step(ACTION)


def test_missing_scores_that_are_long_past_are_forgotten() -> None:
    source = FailingSource(lambda query: "MODEL_ERROR" if query.step % 20 == 5 else None)
    env = wrap(PixelEnv(horizon=300), source, max_missing=0.06, missing_window=100)
    assert len(play(env)) == 300


def test_a_foreign_score_is_never_believed() -> None:
    env = wrap(PixelEnv(), ForeignSource())
    env.reset()
    with pytest.raises(TransportError, match="mixes up its callers"):
        env.step(ACTION)


def test_listeners_hear_every_question_with_its_action() -> None:
    heard: list[tuple[int, bool, Any]] = []
    env = wrap(
        PixelEnv(horizon=3),
        PixelSource(),
        listeners=[lambda query, score, action: heard.append((query.step, score.ok, action))],
    )
    play(env)
    assert [one[:2] for one in heard] == [(0, True), (1, True), (2, True), (3, True)]
    assert heard[0][2] is None
    assert heard[1][2] is ACTION


def test_environments_of_one_source_get_names_of_their_own() -> None:
    source = PixelSource()
    for _ in range(2):
        wrap(PixelEnv(), source).reset()
    wrap(PixelEnv(), source, env_index=7).reset()
    assert [query.env for query in source.asked] == [0, 1, 7]


def test_stream_mode_asks_by_time_and_renders_nothing() -> None:
    source = PixelSource()
    base = PixelEnv(render_mode=None)
    rows = play(wrap(base, source, camera_stream=("wrist", "front"), max_age_s=0.5))
    marks = [query for query in source.asked if isinstance(query, Mark)]
    assert len(marks) == len(source.asked) == 11
    assert base.rendered == 0
    assert marks[0].t_from_ns == 0
    assert marks[0].cameras == ("wrist", "front")
    for before, after in itertools.pairwise(marks):
        assert after.t_from_ns == before.t_to_ns < after.t_to_ns
        assert after.max_age_s == 0.5
    assert rows[4][0] == pytest.approx(delta(0, 0, 5), abs=1e-6)


class FollowedPixels(PixelEnv):
    def scene_config(self) -> bytes:
        return f"episode {self.episode}".encode()

    def scene_state(self) -> Any:
        return np.array([self.episode, self.at], np.float64)


class Sink:
    """Keeps what was published; its stamps are far from the clock's."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int, int, list[float]]] = []

    def publish(self, source: Any, *, env: int = 0, episode: int = 0, step: int) -> int:
        self.heard.append((env, episode, step, source.scene_state().tolist()))
        return 10**6 * len(self.heard)


def test_a_followed_scene_is_published_under_the_name_and_time_of_its_mark() -> None:
    source, sink = PixelSource(), Sink()
    base = FollowedPixels(render_mode=None, horizon=3)
    env = wrap(base, source, camera_stream=("front",), scene=sink, env_index=4)
    play(env)
    play(env)
    names = [(4, episode, step) for episode in (0, 1) for step in range(4)]
    assert [one[:3] for one in sink.heard] == names
    assert [one[3] for one in sink.heard] == [[float(e), float(s)] for _, e, s in names]
    marks = [query for query in source.asked if isinstance(query, Mark)]
    assert [(mark.env, mark.episode, mark.step) for mark in marks] == names
    assert [mark.t_to_ns for mark in marks] == [10**6 * (i + 1) for i in range(8)]


def test_a_scene_that_cannot_be_followed_is_refused() -> None:
    with pytest.raises(ConfigError, match="scene_config"):
        wrap(PixelEnv(), PixelSource(), camera_stream=("front",), scene=Sink())
    with pytest.raises(ConfigError, match="scene needs camera_stream"):
        wrap(FollowedPixels(), PixelSource(), scene=Sink())


def test_stream_mode_never_waits_out_an_outage() -> None:
    source = FailingSource(lambda query: "NO_FRAME" if query.step == 2 else None)
    rows = play(wrap(PixelEnv(render_mode=None), source, camera_stream=("front",)))
    assert math.isnan(rows[1][0])
    assert rows[1][3]["reward_status"] == "stale"
    assert rows[1][3]["score"]["reason"] == "NO_FRAME"


@pytest.mark.parametrize(("options", "patient"), [({}, True), ({"on_missing": "nan"}, False)])
def test_patience_bounds_the_wait_only_where_there_is_any(
    options: dict[str, Any], patient: bool
) -> None:
    waits: list[float] = []

    class Timed(PixelSource):
        def answer(self, scores: Any) -> Answer:
            class Noting(Answer):
                def result(self, *, timeout_s: float) -> Any:
                    waits.append(timeout_s)
                    return super().result(timeout_s=timeout_s)

            return Noting(scores)

    play(wrap(PixelEnv(), Timed(), patience_s=50.0, deadline_s=1.0, **options))
    play(wrap(PixelEnv(), Timed(), patience_s=50.0, deadline_s=1.0, camera_stream=("a",)))
    request, stream = waits[:11], waits[11:]
    assert all((wait > 10) == patient for wait in request)
    assert all(1.0 <= wait < 2.0 for wait in stream)


def test_reset_in_the_middle_starts_another_episode() -> None:
    env = wrap(PixelEnv(), PixelSource())
    env.reset()
    env.step(ACTION)
    env.reset()
    _, reward, _, _, info = env.step(ACTION)
    assert info["reward_for"] == (0, 1, 1)
    assert reward == pytest.approx(delta(0, 1, 1), abs=1e-6)
    assert info["reward_episodes"][0].end == "abandoned"


def test_step_before_reset_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="reset"):
        wrap(PixelEnv(), PixelSource()).step(ACTION)


def test_jpeg_frames_are_made_once() -> None:
    source = PixelSource()
    base = PixelEnv()
    env = wrap(
        base, source, jpeg_quality=90, cameras={"big": lambda env: np.full((32, 32, 3), 9, "u1")}
    )
    play(env)
    first = source.asked[0]
    assert isinstance(first, Query)
    assert first.newest[0].header.encoding == "jpeg"


def test_statistics_of_the_shaper_go_through_a_checkpoint() -> None:
    shaping = ShapingConfig(form="delta", kappa=1.0, normalise=True)
    env = wrap(PixelEnv(horizon=120), PixelSource(), shaping=shaping)
    play(env)
    again = wrap(PixelEnv(), PixelSource(), shaping=shaping)
    again.load_state_dict(env.state_dict())
    assert again.state_dict() == env.state_dict()
    assert again.session.shaper.scale.of(INSTRUCTION) != 1.0


def test_one_config_serves_many_wrappers_and_options_change_it() -> None:
    config = RewardConfig(stride=3, done_owner="env")
    env = wrap(PixelEnv(), PixelSource(), config=config, stride=2)
    assert (env.config.stride, env.config.done_owner) == (2, "env")
