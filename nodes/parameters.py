"""Parameters of nodes: frozen dataclasses, filled from YAML and flags, checked all at once."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from robo_reward.errors import ConfigError, did_you_mean, require

from .metrics import metrics_problem
from .names import check_name, parse_remap


@dataclass(frozen=True, kw_only=True)
class NodeParameters:
    """What every node has."""

    name: str = ""
    """Name of the node; its kind when not given."""
    namespace: str = ""
    """Put before every relative topic, so that several robots can share a machine."""
    remap: tuple[str, ...] = ()
    """FROM:=TO: another topic, or an address, for a topic."""
    keys: Path | None = None
    """Folder of keys (robo-reward keys): every tcp socket is secured, peers must be allowed."""
    insecure_no_auth: bool = False
    """Allow an address that other machines can reach, without keys."""
    metrics: str = ""
    """HOST:PORT for Prometheus (/metrics) and health checks (/health), if anywhere."""
    log_level: str = "info"
    """debug, info, warning or error."""

    def problems(self) -> list[str]:
        """Return everything that is wrong, one sentence each."""
        found = []
        for check in (
            lambda: check_name(self.name or "node"),
            lambda: [check_name(part, what="namespace") for part in _parts(self.namespace)],
            lambda: parse_remap(self.remap),
        ):
            try:
                check()
            except ConfigError as error:
                found.append(str(error))
        if self.metrics:
            open_to_all = self.insecure_no_auth
            found += filter(None, [metrics_problem(self.metrics, insecure_no_auth=open_to_all)])
        levels = ("debug", "info", "warning", "error")
        if self.log_level not in levels:
            found.append(f"log_level must be one of {', '.join(levels)}, got {self.log_level!r}")
        return found

    def __post_init__(self) -> None:
        """Refuse values that no node can run with, all at once."""
        found = self.problems()
        if found:
            raise ConfigError("; ".join(found))


P = TypeVar("P")
N = TypeVar("N", bound=NodeParameters)


def part_of(cls: type[N], whole: object) -> N:
    """Take the parameters of a node out of an object that has them and more, such as a verb."""
    names = [field.name for field in dataclasses.fields(cls)]
    return cls(**{name: getattr(whole, name) for name in names})


def from_mapping(cls: type[P], values: Mapping[str, Any], *, where: str = "parameters") -> P:
    """Make parameters from plain values.

    Args:
        cls: A frozen dataclass.
        values: Field name (``-`` or ``_`` between words) → value as YAML gives it.
        where: Goes before each message.

    Raises:
        ConfigError: Unknown names, wrong types and wrong values, all of them in one message.
    """
    hints = typing.get_type_hints(cls)
    known = {field.name: hints[field.name] for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    problems: list[str] = []
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in known:
            problems.append(f"{where}: unknown {key!r}; {did_you_mean(name, known)}")
            continue
        try:
            found[name] = msgspec.convert(value, known[name], strict=False, dec_hook=_special)
        except msgspec.ValidationError as error:
            problems.append(f"{where}: {name}: {error}")
    try:
        made = cls(**found)
    except (ConfigError, TypeError) as error:
        problems.append(f"{where}: {error}")
    if problems:
        raise ConfigError("; ".join(problems))
    return made


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; nothing in it is executed.

    Raises:
        ConfigError: The file is not there, not YAML, or not a mapping.
    """
    yaml = require("yaml", extra="camera")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold `name: value` lines, got {type(values).__name__}")
    return values


def _special(kind: type, value: Any) -> Any:
    if issubclass(kind, Path) and isinstance(value, str):
        return kind(value)
    raise msgspec.ValidationError(f"expected {kind.__name__}, got {value!r}")


def _parts(namespace: str) -> list[str]:
    return [part for part in namespace.strip("/").split("/") if part]
