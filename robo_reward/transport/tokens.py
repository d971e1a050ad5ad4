"""Bearer tokens, from a file that nobody else may read."""

from __future__ import annotations

import os
from pathlib import Path

from robo_reward.errors import ConfigError


def read_token(path: str, *, least: int = 1) -> str:
    """Return the token in a file.

    Args:
        path: One line, mode 600.
        least: Number of characters that a token must have.

    Raises:
        ConfigError: It cannot be read, others may read it, or it is no token.
    """
    file = Path(path).expanduser()
    try:
        mode = file.stat().st_mode
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the token in {path}: {error}") from error
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(f"others may read {path}; run: chmod 600 {path}")
    if len(token) < least or not is_token(token):
        raise ConfigError(f"{path} must hold one line of at least {least} characters")
    return token


def is_token(text: str) -> bool:
    """Whether text can stand in a header."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text
