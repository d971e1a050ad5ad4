"""Files of keys: who may read them, what is in them, and that a list is followed."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from robo_reward.errors import ConfigError
from robo_reward.transport import keys as keys_module
from robo_reward.transport.keyring import (
    allow,
    expel,
    listed,
    make_members,
    members,
    read_public,
    revoke,
)
from robo_reward.transport.keys import (
    RIGHTS,
    ROLES,
    Keys,
    Right,
    fingerprint,
    parse_line,
    read_list,
)

HOSTS = [("gpu", "reward", ""), ("robot", "camera", "10.0.0.5"), ("arm", "learner", "")]


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    make_members(tmp_path / "keys", HOSTS)
    return tmp_path / "keys"


def test_everyone_in_a_ring_knows_all_the_others(ring: Path) -> None:
    assert {folder.name for folder in members(ring)} == {"gpu", "robot", "arm"}
    gpu = Keys.load(ring / "gpu")
    assert (gpu.own.name, gpu.own.role) == ("gpu", "reward")
    robot = read_public(ring / "robot")
    found = gpu.find(robot.public)
    assert found is not None
    assert (found.name, found.role, found.place) == ("robot", "camera", "10.0.0.5")
    assert gpu.find("0" * 40) is None
    make_members(ring, [("anna", "operator", "")])
    assert {entry.name for entry in listed(ring / "gpu")} == {"robot", "arm", "anna"}


def test_secrets_are_for_their_owner_alone(ring: Path) -> None:
    secret = ring / "gpu" / "secret.key"
    assert (secret.stat().st_mode & 0o777, (ring / "gpu").stat().st_mode & 0o777) == (0o600, 0o700)
    os.chmod(secret, 0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Keys.load(ring / "gpu")


def test_a_secret_is_never_world_readable_not_even_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if Path(target).name == "secret.key":
            seen.append(os.stat(source).st_mode & 0o777)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    before = os.umask(0)
    try:
        make_members(tmp_path / "keys", HOSTS)
    finally:
        os.umask(before)
    assert seen == [0o600] * 3


def test_a_list_that_others_may_write_is_refused(ring: Path) -> None:
    os.chmod(ring / "gpu" / "allowed", 0o666)
    with pytest.raises(ConfigError, match="others may write"):
        Keys.load(ring / "gpu")


def test_nothing_is_written_over(ring: Path) -> None:
    before = (ring / "gpu" / "secret.key").read_bytes()
    with pytest.raises(ConfigError, match="--yes"):
        make_members(ring, [("new", "viewer", ""), ("gpu", "reward", "")])
    assert (ring / "gpu" / "secret.key").read_bytes() == before
    assert not (ring / "new").exists()
    make_members(ring, [("gpu", "reward", "")], overwrite=True)
    assert (ring / "gpu" / "secret.key").read_bytes() != before
    assert Keys.load(ring / "arm").find(read_public(ring / "gpu").public) is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "lacks name, role, public, secret"),
        ("name gpu\nrole king\npublic {public}\nsecret {secret}\n", "a role is one of"),
        ("name gpu\nrole reward\npublic short\nsecret {secret}\n", "40 characters"),
        ("name gpu\nrole reward\npublic {other}\nsecret {secret}\n", "do not belong together"),
        ("name ../x\nrole reward\npublic {public}\nsecret {secret}\n", "a name is"),
        ("x" * 300_000, "no file of keys"),
    ],
)
def test_malformed_secrets_are_refused_without_being_shown(
    ring: Path, content: str, said: str
) -> None:
    public, secret = (half.decode() for half in zmq.curve_keypair())
    other = zmq.curve_keypair()[0].decode()
    path = ring / "gpu" / "secret.key"
    path.write_text(content.format(public=public, secret=secret, other=other))
    with pytest.raises(ConfigError, match=said) as caught:
        Keys.load(ring / "gpu")
    assert secret not in str(caught.value)


@given(st.text(max_size=200))
def test_any_line_is_an_entry_or_a_config_error(line: str) -> None:
    try:
        entry = parse_line(line, where="here")
    except ConfigError:
        return
    assert parse_line(entry.line(), where="there") == entry


def test_keys_show_no_secret_and_are_not_pickled(ring: Path) -> None:
    keys = Keys.load(ring / "gpu")
    secret = (ring / "gpu" / "secret.key").read_text().split()[-1]
    assert secret not in repr(keys)
    assert secret not in str(vars(keys.own.__class__))
    for spread in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            spread(keys)


def test_a_list_is_followed_and_a_broken_one_is_not(
    ring: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keys_module, "LOOK_S", 0.0)
    gpu = Keys.load(ring / "gpu")
    arm = read_public(ring / "arm")
    assert gpu.may(arm.public, "query")
    assert revoke(ring / "gpu", "arm")
    assert not gpu.may(arm.public, "query")
    allow(ring / "gpu", [arm])
    assert gpu.may(arm.public, "query")
    (ring / "gpu" / "allowed").write_text("half a li")
    assert gpu.may(arm.public, "query")
    assert "stays as it was" in caplog.text
    (ring / "gpu" / "allowed").unlink()
    assert not gpu.may(arm.public, "query")


def test_whom_a_ring_expels_no_later_key_trusts(ring: Path) -> None:
    assert expel(ring, "arm")
    assert not expel(ring, "arm")
    make_members(ring, [("anna", "operator", "")])
    for name in ("gpu", "robot", "anna"):
        assert "arm" not in {entry.name for entry in listed(ring / name)}


def test_whose_key_stands_behind_an_address(ring: Path) -> None:
    gpu = Keys.load(ring / "gpu")
    assert gpu.server("tcp://10.0.0.5:5611", right="stream").name == "robot"
    with pytest.raises(ConfigError, match="whose key is behind"):
        gpu.server("tcp://10.0.0.9:5611", right="stream")
    make_members(ring, [("side", "camera", ""), ("top", "camera", "10.0.0.5:5612")])
    gpu = Keys.load(ring / "gpu")
    assert gpu.server("tcp://10.0.0.5:5611", right="stream").name == "robot"
    assert gpu.server("tcp://10.0.0.5:5612", right="stream").name == "top"
    assert gpu.server("tcp://10.0.0.9:5611", right="stream").name == "side"
    with pytest.raises(ConfigError, match="nobody"):
        gpu.server("tcp://10.0.0.5:5611", right="serve")


def test_a_process_trusts_itself_with_everything_and_no_stranger(ring: Path) -> None:
    gpu = Keys.load(ring / "gpu")
    assert gpu.may(gpu.own.public, "query")
    itself = gpu.to_itself()
    assert itself.server("tcp://127.0.0.1:5601", right="serve") == gpu.own
    assert itself.find(read_public(ring / "arm").public) is None


def who_may(right: Right) -> set[str]:
    return {role for role, rights in RIGHTS.items() if right in rights}


def test_roles_are_what_the_design_says() -> None:
    assert set(RIGHTS) == set(ROLES)
    who = {
        right: {role for role in RIGHTS if right in RIGHTS[role]} for right in ("query", "serve")
    }
    assert who == {"query": {"learner"}, "serve": {"reward"}}
    assert {role for role in RIGHTS if "stream" in RIGHTS[role]} == {"camera"}
    assert {role for role in RIGHTS if "override" in RIGHTS[role]} == {"operator"}


def test_fingerprints_are_short_and_differ(ring: Path) -> None:
    prints = [entry.fingerprint for entry in members(ring).values()]
    assert len(set(prints)) == 3
    assert all(len(text) == 19 for text in prints)
    assert fingerprint("0" * 40) == fingerprint("0" * 40)


def test_an_empty_list_allows_nobody(ring: Path) -> None:
    (ring / "gpu" / "allowed").write_text("\n# nobody\n")
    assert read_list(ring / "gpu" / "allowed") == {}
    assert Keys.load(ring / "gpu").find(read_public(ring / "arm").public) is None
