"""The engine: what a table holds; kills, full disks and broken files change none of it."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from robo_reward.datasets.formats import open_dataset
from robo_reward.datasets.labels import LabelTable

from .recordings import PUSH, image_folders, logs, ramp

Command = Callable[..., Any]
BASE = ("--model", "oracle-pixels", "--json", "--instruction", PUSH)


def relabel(command: Command, *args: object, code: int = 0) -> dict[str, Any]:
    ran = command("relabel", *BASE, *map(str, args))
    assert ran.code == code, ran.err
    result: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
    return result


def test_one_row_a_frame(tmp_path: Path, command: Command) -> None:
    data = image_folders(tmp_path / "data", [40, 3, 33])
    result = relabel(command, data, "--out", tmp_path / "out")
    assert (result["episodes"], result["frames"], result["failed"]) == (3, 76, 0)
    table = LabelTable(tmp_path / "out")
    first, second, third = table
    assert [one.id for one in (first, second, third)] == ["ep0", "ep1", "ep2"]
    np.testing.assert_allclose(first.signals["progress"], ramp(40), atol=1 / 255)
    np.testing.assert_allclose(third.signals["progress"], ramp(33, salt=2), atol=1 / 255)
    # Against the frame before, also across the border of a batch; 0 for the first.
    want = np.diff(first.signals["progress"], prepend=first.signals["progress"][0])
    np.testing.assert_allclose(first.signals["progress_delta"], want, atol=1e-6)
    assert set(first.status) == {"ok"}
    assert set(first.instructions) == {PUSH}
    assert table.head.model == "oracle-pixels@1"
    assert table.head.dataset == open_dataset(data).fingerprint()


def test_table_is_the_contract(tmp_path: Path, command: Command) -> None:
    import pyarrow.parquet as parquet

    relabel(command, logs(tmp_path / "logs", [5]), "--out", tmp_path / "out", "--cameras", "wrist")
    rows = parquet.read_table(tmp_path / "out" / "labels.parquet").to_pylist()
    (episode,) = open_dataset(tmp_path / "logs")
    frames = [instant.frames[0].id for instant in episode.instants(("wrist",))]
    assert [row["frame_ids"] for row in rows] == [[name] for name in frames]
    assert [row["reference_ids"] for row in rows] == [[], *([name] for name in frames[:-1])]
    assert {row["schema_version"] for row in rows} == {1}
    assert [row["stamp_ns"] for row in rows] == sorted(row["stamp_ns"] for row in rows)
    assert not any(row["saw_future"] for row in rows)
    assert not any("second" in name or name.endswith("_s") for name in rows[0])


def test_rows_name_what_a_model_that_looks_back_was_shown(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as parquet

    from robo_reward.models import registry

    monkeypatch.setitem(
        registry.BUILT_IN, "remembering", "tests.nodes.serving_tools:RememberingModel"
    )
    relabel(
        command, logs(tmp_path / "logs", [7]), "--out", tmp_path / "out", "--model", "remembering",
        "--batch", 2, "--cameras", "front",
    )  # fmt: skip
    rows = parquet.read_table(tmp_path / "out" / "labels.parquet").to_pylist()
    names = [row["frame_ids"][0] for row in rows]
    shown = [[0, 2, 4], [0, 2, 4]]  # four instants at most: after the fifth every second one
    assert [row["history_ids"] for row in rows[:5]] == [names[:count] for count in range(5)]
    assert [[names.index(one) for one in row["history_ids"]] for row in rows[5:]] == shown


def test_stride_camera_and_sentence_of_the_recording(tmp_path: Path, command: Command) -> None:
    data = logs(tmp_path / "logs", [9, 4], instruction="open the drawer")
    result = relabel(command, data, "--out", tmp_path / "out", "--every", 4)
    assert result["frames"] == 4
    first, second = LabelTable(tmp_path / "out")
    assert first.frames.tolist() == [0, 4, 8]
    assert set(first.instructions) == {"open the drawer"}
    assert second.frames.tolist() == [0]


def test_a_goal_from_the_end_is_said_to_have_seen_the_future(
    tmp_path: Path, command: Command
) -> None:
    import pyarrow.parquet as parquet

    data = image_folders(tmp_path / "data", [6])
    args = ("--model", "goal-distance", "--goal", "last", "--instruction", PUSH, "--json")
    ran = command("relabel", str(data), "--out", str(tmp_path / "out"), *args)
    assert ran.code == 0, ran.err
    rows = parquet.read_table(tmp_path / "out" / "labels.parquet").to_pylist()
    assert all(row["saw_future"] for row in rows)
    assert rows[-1]["progress"] == pytest.approx(1.0)


def test_a_corrupt_episode_is_named_and_the_others_are_labelled(
    tmp_path: Path, command: Command
) -> None:
    data = logs(tmp_path / "logs", [6, 6, 6])
    broken = data / "run1.mcap"
    broken.write_bytes(b"not an mcap at all")
    (image_folders(tmp_path / "films", [40]) / "ep0" / "0035.png").write_bytes(b"no png")
    result = relabel(command, data, "--out", tmp_path / "out", code=1)
    assert list(result["skipped"]) == ["run1"]
    assert result["failed"] == 1
    assert [one.id for one in LabelTable(tmp_path / "out")] == ["run0", "run2"]
    # Broken behind its first batch: nothing of it is in the table.
    result = relabel(command, tmp_path / "films", "--out", tmp_path / "out2", code=1)
    assert "0035.png" in result["skipped"]["ep0"]
    assert list(LabelTable(tmp_path / "out2")) == []


def test_the_same_command_again_scores_nothing(tmp_path: Path, command: Command) -> None:
    data = image_folders(tmp_path / "data", [8])
    relabel(command, data, "--out", tmp_path / "out")
    before = (tmp_path / "out" / "labels.parquet").read_bytes()
    assert relabel(command, data, "--out", tmp_path / "out")["scored_now"] == 0
    ran = command("relabel", str(data), "--out", str(tmp_path / "out"), *BASE, "--every", "2")
    assert ran.code == 2
    assert "another run" in ran.err
    result = relabel(command, data, "--out", tmp_path / "out", "--no-resume", "--yes")
    assert result["scored_now"] == 8
    assert (tmp_path / "out" / "labels.parquet").read_bytes() == before


@pytest.mark.parametrize("text", ["", "perform the task", "task_0", "Complete this demo 12", "n/a"])
def test_sentences_that_say_nothing_are_refused(
    tmp_path: Path, command: Command, text: str
) -> None:
    data = logs(tmp_path / "logs", [3], instruction=text)
    ran = command("relabel", str(data), "--model", "oracle-pixels", "--out", str(tmp_path / "o"))
    assert ran.code == 2
    assert "run0" in ran.err
    assert "--instructions FILE" in ran.err
    assert not (tmp_path / "o").exists()


def test_sentences_of_episodes_and_parts(tmp_path: Path, command: Command) -> None:
    data = image_folders(tmp_path / "data", [6, 4])
    sentences = tmp_path / "s.yaml"
    sentences.write_text(
        "ep0:\n- {start: 1, stop: 3, instruction: grasp the cube}\n"
        "- {start: 3, stop: 6, instruction: lift the cube}\nep1: close the drawer\n"
    )
    relabel(command, data, "--out", tmp_path / "out", "--instructions", sentences)
    first, second = LabelTable(tmp_path / "out")
    assert first.instructions == (PUSH, *["grasp the cube"] * 2, *["lift the cube"] * 3)
    assert set(second.instructions) == {"close the drawer"}
    sentences.write_text("ep7: close the drawer\n")
    ran = command("relabel", str(data), *BASE, "--instructions", str(sentences))
    assert ran.code == 2
    assert "ep7" in ran.err


def test_the_spread_over_wordings_is_reported(tmp_path: Path, command: Command) -> None:
    data = image_folders(tmp_path / "data", [3, 3])
    # One model reads no sentence, the other one does.
    deaf = relabel(command, data, "--out", tmp_path / "a")["wording_spread"]
    assert (deaf["episodes"], deaf["largest"]) == (2, 0.0)
    args = ("--model", "compact", "--device", "cpu", "--out", tmp_path / "b")
    result = relabel(command, data, *args)
    again = relabel(command, data, *args)
    heard = result["wording_spread"]
    assert heard["worst"] in ("ep0", "ep1")
    assert 0.0 < heard["mean"] <= heard["largest"] <= 1.0
    assert again["wording_spread"] == heard


def test_a_dry_run_prices_and_writes_nothing(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = image_folders(tmp_path / "data", [50, 50])
    monkeypatch.chdir(tmp_path)
    result = relabel(command, data, "--dry-run")
    assert result["frames"] == 100
    assert result["seconds"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def start(*args: object, limit_bytes: int | None = None) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""

    def confine() -> None:
        if limit_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.Popen(
        [sys.executable, "-m", "robo_reward", "relabel", *map(str, args), *BASE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=confine,
    )


def journal_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("journal-*.bin"))


def killed_runs(tmp_path: Path, kills: int) -> tuple[bytes, bytes, int]:
    """The table of a run that was killed so often, that of one that was not, and rows kept."""
    data = image_folders(tmp_path / "data", [70, 70, 70, 40])
    args = (data, "--batch", 4, "--model", "compact", "--device", "cpu", "--no-progress")
    whole = start(*args, "--out", tmp_path / "whole")
    assert whole.wait(timeout=300) == 0, whole.communicate()[1].decode()
    whole.communicate()
    chance = random.Random(5)
    out = tmp_path / "killed"
    for number in range(kills):
        process = start(*args, "--out", out)
        # At some moment of its work: after so many further of the 43 kB, and a little.
        wanted = journal_bytes(out) + chance.randrange(1, 30_000 // kills)
        end = time.monotonic() + 300
        while process.poll() is None and journal_bytes(out) < wanted:
            assert time.monotonic() < end
            time.sleep(0.002)
        time.sleep(chance.random() * 0.004)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        if process.returncode == 0:
            break  # finished before the kill came
        assert process.returncode == -signal.SIGKILL, number
    last = start(*args, "--out", out)
    text = last.communicate(timeout=300)
    assert last.returncode == 0, text[1].decode()
    result = json.loads(text[0].decode().splitlines()[-1])
    assert result["frames"] == 250 or result["scored_now"] == 0
    tables = [(folder / "labels.parquet").read_bytes() for folder in (out, tmp_path / "whole")]
    return tables[0], tables[1], int(result["kept_from_before"])


@pytest.mark.timeout(400)
def test_kills_change_no_byte(tmp_path: Path) -> None:
    killed, whole, kept = killed_runs(tmp_path, kills=3)
    assert killed == whole
    assert kept > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_change_no_byte(tmp_path: Path) -> None:
    killed, whole, _ = killed_runs(tmp_path, kills=20)
    assert killed == whole


@pytest.mark.timeout(400)
def test_a_full_disk_stops_cleanly(tmp_path: Path, command: Command) -> None:
    data = image_folders(tmp_path / "data", [60, 60, 60])
    process = start(data, "--batch", 4, "--out", tmp_path / "out", limit_bytes=8000)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err.decode()
    assert "the disk is full" in err.decode()
    assert b"Traceback" not in err
    result = relabel(command, data, "--batch", 4, "--out", tmp_path / "out")
    assert result["kept_from_before"] > 0
    assert result["kept_from_before"] + result["scored_now"] == 180
    relabel(command, data, "--batch", 4, "--out", tmp_path / "whole")
    one, other = (tmp_path / name / "labels.parquet" for name in ("out", "whole"))
    assert one.read_bytes() == other.read_bytes()


def test_a_torn_tail_is_cut_off(tmp_path: Path, command: Command) -> None:
    from robo_reward.relabel.journal import Batch, End, Journal, read_journals

    path = tmp_path / "journal-0.bin"
    with Journal(path) as journal:
        journal.add(Batch(episode=0, number=0, rows=[]))
        journal.add(End(episode=0, batches=1))
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with Journal(path) as journal:
            journal.add(End(episode=7, batches=0, skipped="why"))
        assert 7 in read_journals(tmp_path).ends, size
    path.write_bytes(whole[:-1] + b"\0")
    assert read_journals(tmp_path).ends == {}


@pytest.mark.timeout(400)
def test_a_node_gives_the_same_labels(tmp_path: Path, command: Command, free_port: int) -> None:
    data = image_folders(tmp_path / "data", [20])
    relabel(command, data, "--out", tmp_path / "here")
    address = f"tcp://127.0.0.1:{free_port}"
    node = subprocess.Popen(
        [sys.executable, "-m", "robo_reward", "serve", "--model", "oracle-pixels"]
        + ["--bind", address],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ran = command(
            "relabel", str(data), "--node", address, "--out", str(tmp_path / "there"),
            "--instruction", PUSH, "--timeout", "60", "--json",
        )  # fmt: skip
        assert ran.code == 0, ran.err
    finally:
        node.terminate()
        node.wait(timeout=60)
    here, there = (
        np.array(next(iter(LabelTable(tmp_path / name))).signals["progress"])
        for name in ("here", "there")
    )
    np.testing.assert_allclose(here, there, atol=1e-6)


def test_memory_does_not_grow_with_an_episode(tmp_path: Path) -> None:
    """An episode of far more decoded bytes than may wait, read by a slow model."""
    from robo_reward.relabel.reading import Ahead, Wanted

    data = image_folders(tmp_path / "data", [64])
    (episode,) = open_dataset(data)
    wanted = Wanted(episode=episode, cameras=(), max_views=1, every=1, first=0, batch=4)
    with Ahead([wanted], threads=1, limit_bytes=4 * 16 * 16 * 3) as ahead:
        (stream,) = [next(iter(ahead))]
        batches = stream.batches(ahead.stopped)
        next(batches)
        time.sleep(0.3)
        # One batch fills the limit; the thread holds another one that does not fit.
        assert len(stream._ready) == 1
        assert sum(1 for _ in batches) == 15


@pytest.mark.timeout(400)
def test_workers_change_no_byte(tmp_path: Path, command: Command) -> None:
    data = image_folders(tmp_path / "data", [40, 9, 33, 5])
    (broken := data / "ep1" / "0004.png").write_bytes(b"no png")
    args = (data, "--model", "compact", "--device", "cpu", "--batch", 8)
    tables = []
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        result = relabel(command, *args, "--out", out, "--workers", workers, code=1)
        assert (result["frames"], list(result["skipped"])) == (78, ["ep1"])
        assert broken.name in result["skipped"]["ep1"]
        tables.append((out / "labels.parquet").read_bytes())
    assert tables[0] == tables[1]


@pytest.mark.timeout(400)
def test_a_worker_that_is_killed_is_started_again(tmp_path: Path) -> None:
    from robo_reward.relabel import Instructions, JudgeConfig, RelabelOptions
    from robo_reward.relabel.journal import read_journals
    from robo_reward.relabel.workers import Job, label_with_workers

    data = image_folders(tmp_path / "data", [60, 60])
    (tmp_path / "out").mkdir()
    job = Job(
        dataset=str(data),
        options=RelabelOptions(instructions=Instructions(fallback=PUSH), batch=2),
        # Slow enough to be met at work, however quick the machine.
        judge=JudgeConfig(model="oracle-pixels,each_s=0.03", device="cpu"),
        folder=str(tmp_path / "out"),
        total=2,
    )
    killed: list[int] = []

    def kill_one(_: object) -> None:
        # The children of this process that have begun to write.
        if killed or not journal_bytes(tmp_path / "out"):
            return
        mine = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        for child in map(int, mine):
            if b"relabel.workers" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)
                killed.append(child)
                return

    tally = label_with_workers(job, workers=2, on_progress=kill_one)
    assert killed
    assert tally.total == 2
    done = read_journals(tmp_path / "out")
    assert sorted(done.ends) == [0, 1]
    assert len(done.read(0)) == len(done.read(1)) == 60


def test_nothing_is_left_behind(tmp_path: Path, command: Command) -> None:
    data = image_folders(tmp_path / "data", [5])
    relabel(command, data, "--out", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    own = ["config.yaml", "env.json", "log.txt", "result.json"]
    assert names == sorted([*own, "labels.parquet", "run.json"])
    assert sorted(os.listdir(tmp_path)) == ["data", "out"]
