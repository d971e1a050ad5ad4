"""Keys: who this process is, and who may do what with it. The one place that secures a socket.

A folder of keys belongs to one identity on one host:

    secret.key   its name, role, public and secret half; mode 600
    public.key   the line that others put on their list: NAME ROLE KEY
    allowed      such lines, one for each peer, whichever end connects: NAME ROLE KEY [HOST[:PORT]]

Every ``tcp`` socket of a process with keys speaks CURVE (RFC 26), at both ends and on the loopback
interface too; ``ipc`` is guarded by the permissions of its folder. Whoever is not on the list is
refused in the handshake; what the others may ask for is their role.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import re
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import zmq
from zmq.utils import z85

from robo_reward.errors import ConfigError

logger = logging.getLogger(__name__)

Role = Literal["reward", "camera", "learner", "viewer", "operator"]
Right = Literal["serve", "stream", "report", "query", "watch", "follow", "override"]
"""Binding: serve scores, stream frames, report events and scenes. Connecting: query scores, watch
streams, follow a scene, override what a model said."""

RIGHTS: Mapping[Role, frozenset[Right]] = {
    "reward": frozenset({"serve", "watch"}),
    "camera": frozenset({"stream", "follow"}),
    "learner": frozenset({"query", "report", "watch"}),
    "viewer": frozenset({"watch"}),
    "operator": frozenset({"watch", "override"}),
}
ROLES = get_args(Role)

SECRET_FILE = "secret.key"
PUBLIC_FILE = "public.key"
LIST_FILE = "allowed"
DOMAIN = b"robo-reward"
MAX_FILE_BYTES = 256 * 1024
LOOK_S = 0.25

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One identity: the public half, which is no secret.

    Attributes:
        name: For people and logs.
        role: Key of ``RIGHTS``.
        public: Public key, 40 characters of Z85.
        place: ``host`` or ``host:port`` where it is found, where several have the same role.
    """

    name: str
    role: Role
    public: str
    place: str = ""

    def may(self, right: Right) -> bool:
        """Whether its role includes this."""
        return right in RIGHTS[self.role]

    @property
    def fingerprint(self) -> str:
        """Return 80 bits to compare by eye or by telephone: ``abcd-efgh-ijkl-mnop``."""
        return fingerprint(self.public)

    def line(self) -> str:
        """Return its line for a list."""
        return " ".join(filter(None, (self.name, self.role, self.public, self.place)))


def fingerprint(public: str) -> str:
    """Return the fingerprint of a public key.

    Example:
        >>> fingerprint("0" * 40)
        'y35r-ud46-iitc-ajai'
    """
    digest = hashlib.blake2b(public.encode("ascii"), digest_size=10).digest()
    text = base64.b32encode(digest).decode("ascii").lower()
    return "-".join(text[at : at + 4] for at in range(0, 16, 4))


def parse_line(line: str, *, where: str) -> Entry:
    """Read a line of a list.

    Raises:
        ConfigError: It is not ``NAME ROLE KEY [HOST[:PORT]]``.
    """
    words = line.split()
    problem = ""
    if len(words) not in (3, 4):
        problem = f"{len(words)} words, expected NAME ROLE KEY [HOST[:PORT]]"
    elif not _NAME.match(words[0]):
        problem = "a name is letters, digits, _ . and -"
    elif words[1] not in ROLES:
        problem = f"a role is one of {', '.join(ROLES)}, got {words[1][:20]!r}"
    elif not _is_key(words[2]):
        problem = "a key is 40 characters of Z85"
    if problem:
        raise ConfigError(f"{where}: {problem}")
    place = words[3] if len(words) == 4 else ""
    return Entry(name=words[0], role=words[1], public=words[2], place=place)  # type: ignore[arg-type]


def read_list(path: Path) -> dict[str, Entry]:
    """Read an allow-list; returns public key → entry.

    Raises:
        ConfigError: It cannot be read, others may write it, or a line is malformed.
    """
    found: dict[str, Entry] = {}
    for number, line in enumerate(_read(path, private=0o022).splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("# "):
            entry = parse_line(line, where=f"{path}, line {number}")
            found[entry.public] = entry
    return found


class AllowList:
    """The peers of a file, read again whenever it changes.

    Args:
        path: The file; where there is none, nobody is allowed.

    Raises:
        ConfigError: It is malformed. One that becomes so later is not taken: the last good one
            stays, and an error is logged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._look_s = time.monotonic() + LOOK_S
        self._stamp = self._status()
        self._entries = read_list(path) if self._stamp is not None else {}

    def entries(self) -> Mapping[str, Entry]:
        """Return public key → entry, at most 0.25 s behind the file."""
        now = time.monotonic()
        if now >= self._look_s:
            self._look_s = now + LOOK_S
            stamp = self._status()
            if stamp != self._stamp:
                self._stamp = stamp
                self._read_again()
        return self._entries

    def _read_again(self) -> None:
        try:
            entries = read_list(self.path) if self._stamp is not None else {}
        except ConfigError as error:
            logger.error("the list of allowed keys stays as it was: %s", error)
            return
        self._entries = entries
        logger.info("%s was read again: %d keys", self.path, len(entries))

    def _status(self) -> tuple[int, int, int] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


class Keys:
    """The identity of this process and its list; never printed, logged or pickled.

    Args:
        own: Public half.
        secret: Secret half, 40 characters of Z85.
        allowed: Peers.

    Raises:
        ConfigError: The halves do not belong together.
    """

    def __init__(self, own: Entry, *, secret: str, allowed: AllowList | None) -> None:
        check_curve()
        if not _is_key(secret) or zmq.curve_public(secret.encode()).decode() != own.public:
            raise ConfigError(f"the two halves of the key of {own.name} do not belong together")
        self.own = own
        self._secret = secret
        self._allowed = allowed

    @classmethod
    def load(cls, folder: Path | str) -> Keys:
        """Read a folder of keys.

        Raises:
            ConfigError: Something is missing or malformed, or others may read the secret.
        """
        folder = Path(folder).expanduser()
        path = folder / SECRET_FILE
        if not path.is_file():
            raise ConfigError(
                f"{folder} holds no {SECRET_FILE}; make keys with: robo-reward keys make NAME:ROLE"
            )
        values = dict(
            line.split(maxsplit=1)
            for line in _read(path, private=0o077).splitlines()
            if len(line.split()) == 2
        )
        missing = [word for word in ("name", "role", "public", "secret") if word not in values]
        if missing:
            raise ConfigError(f"{path} lacks {', '.join(missing)}")
        line = f"{values['name']} {values['role']} {values['public']}"
        own = parse_line(line, where=str(path))
        return cls(own, secret=values["secret"], allowed=AllowList(folder / LIST_FILE))

    def __repr__(self) -> str:
        return f"Keys({self.own.name}, {self.own.role}, {self.own.fingerprint})"

    def __reduce__(self) -> str:
        raise TypeError("keys are not pickled: hand on the folder, which other processes can read")

    def to_itself(self) -> Keys:
        """Return keys for a client within the node that has these: it trusts that node alone."""
        return Keys(self.own, secret=self._secret, allowed=None)

    def find(self, public: str) -> Entry | None:
        """Return who has this key; ``None`` for a stranger, or one whose key was revoked."""
        if public == self.own.public:
            return self.own
        return None if self._allowed is None else self._allowed.entries().get(public)

    def may(self, public: str, right: Right) -> bool:
        """Whether the owner of a key may do this; a process may do anything with itself."""
        entry = self.find(public)
        return entry is not None and (entry is self.own or entry.may(right))

    def server(self, address: str, *, right: Right) -> Entry:
        """Return whose key must stand behind an address.

        Args:
            address: ``tcp://host:port``.
            right: What the one that has bound it must be allowed to do there.

        Raises:
            ConfigError: Nobody on the list may do that, or several may and none is placed there.
        """
        if self._allowed is None:
            return self.own
        able = [one for one in self._allowed.entries().values() if one.may(right)]
        place = address.removeprefix("tcp://")
        host = place.rpartition(":")[0]
        for wanted in (place, host):
            placed = [one for one in able if one.place == wanted]
            if len(placed) == 1:
                return placed[0]
        free = [one for one in able if not one.place]
        if len(free) == 1:
            return free[0]
        names = ", ".join(one.name for one in free) or "nobody"
        raise ConfigError(
            f"whose key is behind {address}? {names} in {self._allowed.path} may {right} there; "
            "write its host behind its line, or ask for its public.key"
        )

    def secure_server(self, socket: zmq.Socket[bytes]) -> None:
        """Put keys on a socket that will be bound; its context needs a ``Guard``."""
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, self._secret.encode())
        socket.set(zmq.ZAP_DOMAIN, DOMAIN)
        # Without this libzmq lets any key in where nobody answers for the domain.
        socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def secure_client(self, socket: zmq.Socket[bytes], address: str, *, right: Right) -> None:
        """Put keys on a socket that will connect to whoever may do this there.

        Raises:
            ConfigError: It is not known whose key stands behind the address.
        """
        socket.set(zmq.CURVE_SERVERKEY, self.server(address, right=right).public.encode())
        socket.set(zmq.CURVE_PUBLICKEY, self.own.public.encode())
        socket.set(zmq.CURVE_SECRETKEY, self._secret.encode())


def as_keys(keys: Keys | Path | str | None) -> Keys | None:
    """Return keys, read from a folder where one is given; ``None`` for none."""
    return keys if keys is None or isinstance(keys, Keys) else Keys.load(keys)


def _read(path: Path, *, private: int) -> str:
    try:
        status = path.stat()
        if status.st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path} is no file of keys: {status.st_size} bytes")
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if os.name == "posix" and status.st_mode & private:
        mode = "600" if private & 0o044 else "644"
        what = "read" if private & 0o044 else "write"
        raise ConfigError(f"others may {what} {path}; run: chmod {mode} {path}")
    return text


def _is_key(text: str) -> bool:
    if len(text) != 40 or not text.isascii():
        return False
    try:
        return len(z85.decode(text)) == 32
    except (KeyError, ValueError, struct.error):
        return False


def check_curve() -> None:
    """Raise ``ConfigError`` where libzmq was built without CURVE."""
    if not zmq.has("curve"):
        raise ConfigError(
            "this pyzmq was built without CURVE; install the wheel: pip install pyzmq"
        )
