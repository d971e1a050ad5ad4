"""Flags to a verb's dataclass: tyro, with the defaults of ``--config``."""

from __future__ import annotations

import difflib
import sys
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec
import tyro

from robo_reward.errors import ConfigError, did_you_mean, require

if TYPE_CHECKING:
    from .common import Common


def parse(name: str, verb: type[Common], args: list[str]) -> Common:
    """Return the verb's dataclass filled from the flags.

    Args:
        name: Name of the verb.
        verb: Its class.
        args: What stands behind the name on the command line.

    Raises:
        ConfigError: The file of ``--config`` does not fit.
        SystemExit: 0 after ``--help``, 2 for flags that do not fit; tyro has said why.
    """
    config = _config_path(args)
    default: Any = tyro.MISSING_NONPROP if config is None else _from_file(verb, config)
    try:
        command: Common = tyro.cli(
            verb,
            prog=f"robo-reward {name}",
            description=_description(verb),
            args=args,
            default=default,
            config=(tyro.conf.PositionalMetavarFromFieldName, tyro.conf.DisallowNone),
        )
    except SystemExit as stop:
        if stop.code:
            _hint(verb, args)
        raise
    return command


def _hint(verb: type[Common], args: list[str]) -> None:
    # tyro suggests a name for an unknown flag, but not while a required one is missing: just when
    # it is the required one that was typed wrongly.
    needed = ["--" + f.name.replace("_", "-") for f in fields(verb) if _default(f) is tyro.MISSING]
    for arg in args:
        flag = arg.partition("=")[0]
        close = difflib.get_close_matches(flag, needed, n=1, cutoff=0.7)
        if flag.startswith("--") and close and flag not in needed:
            sys.stderr.write(f"{flag}: did you mean {close[0]}?\n")


def _description(verb: type[Common]) -> str:
    text = (verb.__doc__ or "").strip()
    if not verb.examples:
        return text
    return "\n".join([text, "", "Examples:", *(f"  {example}" for example in verb.examples)])


def _config_path(args: list[str]) -> Path | None:
    for index, arg in enumerate(args):
        if arg.startswith("--config="):
            return Path(arg.partition("=")[2])
        if arg == "--config" and index + 1 < len(args):
            return Path(args[index + 1])
    return None


def _from_file(verb: type[Common], path: Path) -> Common:
    values = _read(path)
    known = {field.name: field for field in fields(verb)}
    problems = [
        f"{key}: no such setting; {did_you_mean(key, known)}" for key in values if key not in known
    ]
    hints = get_type_hints(verb, include_extras=True)
    # The class may check its values, but required ones can still come from the flags: the object
    # is only a bag of defaults for tyro, so its constructor does not run.
    bag = object.__new__(verb)
    for name, field in known.items():
        try:
            value = _convert(values[name], hints[name]) if name in values else _default(field)
            object.__setattr__(bag, name, value)
        except msgspec.ValidationError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ConfigError(f"--config {path}: " + "; ".join(problems))
    return bag


def _read(path: Path) -> dict[str, Any]:
    yaml = require("yaml", extra="camera")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path} cannot be read: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path} must hold `setting: value` lines")
    return {str(key).replace("-", "_"): value for key, value in values.items()}


def _convert(value: object, kind: Any) -> object:
    return msgspec.convert(value, kind, strict=False, dec_hook=_special)


def _special(kind: type, value: object) -> object:
    if issubclass(kind, Path):
        return kind(str(value))
    raise NotImplementedError(f"no setting of type {kind.__name__} in a file")


def _default(field: Field[Any]) -> object:
    if field.default is not MISSING:
        return field.default
    return tyro.MISSING if field.default_factory is MISSING else field.default_factory()
