"""Making keys and lists: the folders that ``Keys.load`` reads.

A ring is a folder of such folders, one for each identity; whoever is made in it is put on the lists
of all the others, so that each folder can be carried to its host as it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import zmq

from robo_reward.errors import ConfigError

from .keys import (
    LIST_FILE,
    PUBLIC_FILE,
    SECRET_FILE,
    Entry,
    check_curve,
    parse_line,
    read_list,
)

REVOKED_FILE = "revoked.key"


def make_identity(
    folder: Path, name: str, role: str, *, place: str = "", overwrite: bool = False
) -> Entry:
    """Make a key pair and write it into a folder of its own.

    Args:
        folder: Made with mode 700 if need be.
        name: Of the identity.
        role: Key of ``RIGHTS``.
        place: ``host`` or ``host:port`` where others find it; empty for none.
        overwrite: Replace a pair that is there.

    Raises:
        ConfigError: The name or role is wrong, or there is a pair already.
    """
    check_curve()
    public, secret = (half.decode() for half in zmq.curve_keypair())
    entry = parse_line(f"{name} {role} {public} {place}", where="a new key")
    path = folder / SECRET_FILE
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} is there already; --yes replaces it, and peers must be told")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [f"name {name}", f"role {role}", f"public {public}", f"secret {secret}"]
    write_whole(path, lines, mode=0o600)
    write_whole(folder / PUBLIC_FILE, [entry.line()], mode=0o644)
    return entry


def write_list(path: Path, entries: Sequence[Entry]) -> None:
    """Write an allow-list, whole or not at all; nodes that run take it within a second."""
    head = "# who may talk to this process: NAME ROLE KEY [HOST[:PORT]]"
    write_whole(path, [head, *(entry.line() for entry in entries)], mode=0o644)


def write_whole(path: Path, lines: Sequence[str], *, mode: int) -> None:
    """Write a file so that nobody sees half of it, or a secret before its mode is set."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        os.chmod(part, mode)
        file.write("\n".join(lines) + "\n")
    os.replace(part, path)


def is_identity(folder: Path) -> bool:
    """Whether a folder holds the keys of one identity, and is no ring."""
    return (folder / SECRET_FILE).exists() or (folder / LIST_FILE).exists()


def read_public(path: Path) -> Entry:
    """Read the public half of an identity.

    Args:
        path: A ``public.key``, or the folder that holds it.

    Raises:
        ConfigError: It cannot be read or is malformed.
    """
    path = path / PUBLIC_FILE if path.is_dir() else path
    entries = list(read_list(path).values())
    if len(entries) != 1:
        raise ConfigError(f"{path} must hold one line, NAME ROLE KEY; it holds {len(entries)}")
    return entries[0]


def members(ring: Path) -> dict[Path, Entry]:
    """Return the folders of a ring and whose they are."""
    folders = sorted(path.parent for path in ring.glob(f"*/{PUBLIC_FILE}"))
    return {folder: read_public(folder) for folder in folders}


def allow(folder: Path, entries: Sequence[Entry]) -> list[Entry]:
    """Put identities on the list of one; who has the name of another takes its place.

    Returns:
        The whole list.
    """
    own = read_public(folder).public if (folder / PUBLIC_FILE).exists() else ""
    kept = {entry.name: entry for entry in listed(folder)}
    kept.update({entry.name: entry for entry in entries if entry.public != own})
    write_list(folder / LIST_FILE, list(kept.values()))
    return list(kept.values())


def expel(ring: Path, name: str) -> bool:
    """Take a name off every list of a ring, and out of it; whether it was on any.

    Its folder stays, but without ``public.key``: what is made later will not trust it again.
    """
    mine = ring / name / PUBLIC_FILE
    found = [folder for folder in members(ring) if revoke(folder, name)]
    if mine.exists():
        mine.replace(mine.with_name(REVOKED_FILE))
        return True
    return bool(found)


def revoke(folder: Path, name: str) -> bool:
    """Take a name off the list of an identity; whether it was there."""
    before = listed(folder)
    after = [entry for entry in before if entry.name != name]
    if len(after) == len(before):
        return False
    write_list(folder / LIST_FILE, after)
    return True


def make_members(
    ring: Path, wanted: Sequence[tuple[str, str, str]], *, overwrite: bool = False
) -> list[Entry]:
    """Make identities in a ring and put everyone in it on the lists of all the others.

    Args:
        ring: Made with mode 700 if need be.
        wanted: Name, role and place (empty for none) of each.
        overwrite: Replace pairs that are there.

    Raises:
        ConfigError: A name or role is wrong or twice, or there is a pair already; nothing was made.
    """
    names = [name for name, _, _ in wanted]
    problems = [f"{name} is named twice" for name in sorted(set(names)) if names.count(name) > 1]
    if not overwrite:
        there = [name for name in names if (ring / name / SECRET_FILE).exists()]
        problems += [f"{ring / name} is there already; --yes makes a new pair" for name in there]
    for name, role, place in wanted:
        try:
            parse_line(f"{name} {role} {'0' * 40} {place}", where=f"{name}:{role}")
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems))
    ring.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = [
        make_identity(ring / name, name, role, place=place, overwrite=overwrite)
        for name, role, place in wanted
    ]
    everyone = members(ring)
    for folder in everyone:
        allow(folder, list(everyone.values()))
    return made


def listed(folder: Path) -> list[Entry]:
    """Return who is on the list of an identity; nobody where there is no list."""
    path = folder / LIST_FILE
    return list(read_list(path).values()) if path.exists() else []
