"""Names as in ROS 2: namespaces, private names and remapping; and where a topic is found."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from robo_reward.errors import ConfigError

_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_TOPIC = re.compile(r"^(/|~/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$")
MAX_IPC_PATH = 100


def check_name(name: str, *, what: str = "name") -> str:
    """Return a name of letters, digits and underscores.

    Raises:
        ConfigError: It holds anything else, or begins with a digit.
    """
    if not _NAME.match(name):
        raise ConfigError(
            f"{what} must be letters, digits and underscores, got {name!r}; for example front_left"
        )
    return name


def parse_remap(rules: Sequence[str]) -> dict[str, str]:
    """Read rules of the form ``from:=to``, as on a ROS 2 command line.

    Raises:
        ConfigError: A rule has another form.
    """
    remap = {}
    for rule in rules:
        source, arrow, target = rule.partition(":=")
        if not (arrow and source and target):
            raise ConfigError(f"remap must be FROM:=TO, got {rule!r}")
        remap[source] = target
    return remap


def resolve(
    topic: str, *, namespace: str = "", node: str = "", remap: Mapping[str, str] | None = None
) -> str:
    """Return the full name of a topic.

    Args:
        topic: ``camera/front/frame`` is relative to the namespace, ``/a/b`` is absolute, ``~/x``
            is private to the node.
        namespace: Namespace of the node, without slashes at the ends.
        node: Name of the node.
        remap: Given or full name → the name (or address) to use instead.

    Raises:
        ConfigError: The name is malformed.

    Example:
        >>> resolve("camera/front/frame", namespace="lab")
        '/lab/camera/front/frame'
        >>> resolve("camera/front/frame", remap={"camera/front/frame": "/left"})
        '/left'
    """
    rules = remap or {}
    name = rules.get(topic, topic)
    if "://" in name:
        return name
    if not _TOPIC.match(name):
        raise ConfigError(f"topic must be names joined by /, got {name!r}")
    space = f"/{namespace.strip('/')}" if namespace.strip("/") else ""
    if name.startswith("~/"):
        name = f"{space}/{node}/{name[2:]}"
    elif not name.startswith("/"):
        name = f"{space}/{name}"
    return rules.get(name, name)


def address_of(resolved: str) -> str:
    """Return where a resolved topic is found: itself if it is an address, else a local socket.

    Raises:
        ConfigError: The path would be longer than a socket's may be.
    """
    if "://" in resolved:
        return resolved
    path = runtime_folder() / resolved.strip("/").replace("/", ".")
    if len(str(path)) > MAX_IPC_PATH:
        raise ConfigError(
            f"{path} is too long for a local socket; remap it to tcp://127.0.0.1:PORT"
        )
    return f"ipc://{path}"


def runtime_folder() -> Path:
    """Return the folder of local sockets, made if need be; only this user may enter it."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    own = Path(tempfile.gettempdir()) / f"robo-reward-{user}"
    folder = Path(base) / "robo-reward" if base else own
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
        raise ConfigError(
            f"{folder} may be entered by others; chmod 700 it, or set XDG_RUNTIME_DIR to a folder "
            "of your own"
        )
    return folder
