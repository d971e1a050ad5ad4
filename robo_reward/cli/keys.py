"""``robo-reward keys``: who may talk to whom."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from robo_reward.errors import ConfigError

from .common import Common, Result
from .console import table

if TYPE_CHECKING:
    from robo_reward.transport.keys import Entry

_WANTED = re.compile(r"^(?P<name>[^:@\s]+):(?P<role>[^:@\s]+)(@(?P<place>\S+))?$")


@dataclass(frozen=True, kw_only=True)
class Keys(Common):
    """Make key pairs and the lists of who is allowed, for nodes on more than one host.

    list shows who is there, with fingerprints to compare. make writes a folder for each NAME:ROLE;
    roles: reward, camera, learner, viewer, operator. @HOST[:PORT] says where it is found, where
    several have the same role. allow puts public.key files of other hosts on a list, revoke takes
    names off: nodes that run notice within a second. Secret halves are never shown.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "robo-reward keys make gpu:reward robot:camera arm:learner anna:operator",
        "robo-reward keys",
        "robo-reward keys allow robot.key --keys keys/gpu",
        "robo-reward keys revoke arm",
    )

    action: Annotated[Literal["list", "make", "allow", "revoke"], tyro.conf.Positional] = "list"
    """What to do."""
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """make: NAME:ROLE[@HOST[:PORT]]; allow: files; revoke: names."""
    keys: Path = Path("keys")
    """Folder of all identities, or that of one of them."""
    yes: bool = False
    """make: replace the pairs of names that are there; peers on other hosts must be told."""

    def run(self) -> Result:
        """Do it, and return who is there now."""
        if (self.action == "list") == bool(self.names):
            raise ConfigError(
                f"keys {self.action} takes "
                + ("no names" if self.names else "names, for example gpu:reward")
            )
        if self.action == "make":
            self._make()
        elif self.action == "allow":
            self._allow()
        elif self.action == "revoke":
            self._revoke()
        return self._rows()

    def show(self, result: Result) -> str:
        """Return a table."""
        rows = result if isinstance(result, list) else [result]
        return table(rows) if rows else f"no keys in {self.keys}"

    def _make(self) -> None:
        from robo_reward.transport.keyring import is_identity, make_members

        if is_identity(self.keys):
            raise ConfigError(f"{self.keys} is the folder of one identity; make others beside it")
        wanted = []
        for text in self.names:
            match = _WANTED.match(text)
            if match is None:
                raise ConfigError(f"must be NAME:ROLE or NAME:ROLE@HOST[:PORT], got {text!r}")
            wanted.append((match["name"], match["role"], match["place"] or ""))
        for entry in make_members(self.keys, wanted, overwrite=self.yes):
            self.console().say(f"{self.keys / entry.name}: for the host of {entry.name} alone")

    def _allow(self) -> None:
        from robo_reward.transport.keyring import allow, read_public

        entries = [read_public(Path(name)) for name in self.names]
        for folder in self._folders():
            allow(folder, entries)

    def _revoke(self) -> None:
        from robo_reward.transport.keyring import expel, is_identity, revoke

        take_off = revoke if is_identity(self.keys) else expel
        for name in self.names:
            if not take_off(self.keys, name):
                raise ConfigError(f"no list in {self.keys} holds {name}")

    def _folders(self) -> list[Path]:
        from robo_reward.transport.keyring import is_identity, members

        if is_identity(self.keys):
            return [self.keys]
        found = list(members(self.keys))
        if not found:
            raise ConfigError(f"{self.keys} holds no keys; make some with: robo-reward keys make")
        return found

    def _rows(self) -> list[dict[str, Any]]:
        from robo_reward.transport.keyring import is_identity, listed, members, read_public

        if is_identity(self.keys):
            return _described([read_public(self.keys)], kind="own") + _described(
                listed(self.keys), kind="allowed"
            )
        return [
            {**row, "allows": " ".join(entry.name for entry in listed(folder))}
            for folder, entry in members(self.keys).items()
            for row in _described([entry], kind=str(folder))
        ]


def _described(entries: Sequence[Entry], *, kind: str) -> list[dict[str, Any]]:
    return [
        {
            "name": entry.name,
            "role": entry.role,
            "fingerprint": entry.fingerprint,
            "place": entry.place,
            "where": kind,
        }
        for entry in entries
    ]
