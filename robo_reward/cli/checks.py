"""What ``doctor`` looks at. Whatever may abort its process is tried in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from .output import version_of

Row = dict[str, Any]

DEFAULT_PORTS = (5600, 5601, 5602, 5603)
HEADLESS = "opencv-python-headless"

DRAW = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='.3' rgba='1 0 0 1'/>"
    "<camera name='c' pos='0 -2 0' xyaxes='1 0 0 0 0 1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 64, 64)
renderer.update_scene(data, camera="c")
image = renderer.render()
from OpenGL import GL
name = GL.glGetString(GL.GL_RENDERER).decode()
renderer.close()
print("ANSWER" + __import__("json").dumps([bool(image[32, 32, 0] > 60), name]))
"""

TORCH = """
import torch, json
found = [["cuda:%d" % i, torch.cuda.get_device_name(i),
          torch.cuda.get_device_properties(i).total_memory / 2**30]
         for i in range(torch.cuda.device_count())]
if torch.backends.mps.is_available():
    found.append(["mps", "Apple", None])
print("ANSWER" + json.dumps(found))
"""

CAMERA = """
import cv2, json, sys
capture = cv2.VideoCapture(int(sys.argv[1]))
good, image = capture.read()
print("ANSWER" + json.dumps([bool(good), list(image.shape) if good else None]))
capture.release()
"""


def machine() -> Row:
    """Say what computer and interpreter this is."""
    return {
        "robo-reward": version_of("robo-reward") or "not installed (running from the sources)",
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        "MUJOCO_GL": os.environ.get("MUJOCO_GL", "not set"),
        "DISPLAY": os.environ.get("DISPLAY", "not set"),
    }


def packages() -> list[Row]:
    """List the version of everything that robo-reward may use."""
    names = dict.fromkeys(name for names in _requirements().values() for name in names)
    rows = [{"package": name, "version": _version(name)} for name in names]
    return [row for row in rows if row["version"]]


def extras() -> list[Row]:
    """Say which extras are complete, and the line that completes the others."""
    rows = []
    for extra, names in _requirements().items():
        absent = [name for name in names if _version(name) is None]
        rows.append(
            {
                "extra": extra or "(base)",
                "complete": not absent,
                "missing": absent,
                "run": f'pip install "robo-reward[{extra}]"' if absent else "",
            }
        )
    return rows


def graphics(*, timeout_s: float) -> list[Row]:
    """Render one picture with each OpenGL back end of MuJoCo."""
    if importlib.util.find_spec("mujoco") is None:
        return [{"backend": "-", "works": False, "says": 'pip install "robo-reward[sim]"'}]
    needs = {
        "egl": "apt-get install --no-install-recommends libegl1 libgl1",
        "osmesa": "apt-get install --no-install-recommends libosmesa6 (egl is enough)",
    }
    rows = []
    for backend, line in needs.items():
        answer, why = try_apart(DRAW, timeout_s=timeout_s, env={"MUJOCO_GL": backend})
        works = bool(answer and answer[0])
        says = answer[1] if answer and works else f"{why}; {line}"
        rows.append({"backend": backend, "works": works, "says": says})
    return rows


def gpu(*, timeout_s: float) -> list[Row]:
    """List the accelerators that torch can use."""
    if importlib.util.find_spec("torch") is None:
        return [{"device": "-", "name": "torch is not installed", "memory_gb": None}]
    found, why = try_apart(TORCH, timeout_s=timeout_s)
    if not found:
        return [{"device": "cpu", "name": why or "no CUDA or MPS device", "memory_gb": None}]
    return [{"device": device, "name": name, "memory_gb": gb} for device, name, gb in found]


def cameras(*, timeout_s: float) -> list[Row]:
    """Read one frame from each video device."""
    devices = sorted(Path("/dev").glob("video*"))
    if not devices:
        return [{"camera": "-", "works": False, "says": "no /dev/video* on this machine"}]
    if importlib.util.find_spec("cv2") is None:
        return [{"camera": "-", "works": False, "says": 'pip install "robo-reward[camera]"'}]
    rows = []
    for device in devices:
        if not os.access(device, os.R_OK | os.W_OK):
            says: Any = "no permission; run: sudo usermod -aG video $USER, then log in again"
            rows.append({"camera": str(device), "works": False, "says": says})
            continue
        number = device.name.removeprefix("video")
        answer, why = try_apart(CAMERA, number, timeout_s=timeout_s)
        works = bool(answer and answer[0])
        says = answer[1] if answer and works else why or "opens, but gives no picture"
        rows.append({"camera": str(device), "works": works, "says": says})
    return rows


def ports() -> list[Row]:
    """Say which of the default ports are free on the loopback interface."""
    rows = []
    for port in DEFAULT_PORTS:
        with socket.socket() as probe:
            # As ZeroMQ does: a port that was closed a moment ago counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                rows.append({"port": port, "free": False, "says": error.strerror})
            else:
                rows.append({"port": port, "free": True, "says": ""})
    return rows


def caches() -> list[Row]:
    """Say where weights are kept and how much they take."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    folders = {
        "hub": Path(os.environ.get("HF_HUB_CACHE", home / "hub")),
        "outputs": Path("outputs"),
    }
    return [
        {"cache": name, "folder": str(path), "size_mb": _size_mb(path)}
        for name, path in folders.items()
    ]


def try_apart(
    code: str, *args: str, timeout_s: float, env: dict[str, str] | None = None
) -> tuple[Any, str]:
    """Run code in a fresh interpreter; an abort, a hang or a segfault there is an answer too.

    Args:
        code: Prints ``ANSWER`` and JSON when it succeeds.
        *args: Its ``sys.argv[1:]``.
        timeout_s: Seconds until it is killed.
        env: Variables to set.

    Returns:
        The decoded answer or ``None``, and why there is none.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *args],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env={**os.environ, **(env or {})},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer in {timeout_s:g} s"
    for line in done.stdout.splitlines():
        if line.startswith("ANSWER"):
            return json.loads(line.removeprefix("ANSWER")), ""
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return None, last[:200]


def _requirements() -> dict[str, list[str]]:
    """Return extra → distributions, ``""`` for the base, as the installed metadata says."""
    try:
        lines = metadata.requires("robo-reward") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if name and name.group() != "robo-reward":
            found.setdefault(extra.group(1) if extra else "", []).append(name.group())
    return found


def _version(name: str) -> str | None:
    if name == "opencv-python":
        return version_of(name) or version_of(HEADLESS)
    return version_of(name)


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None


def _size_mb(path: Path) -> float:
    if not path.is_dir():
        return 0.0
    sizes = (item.stat().st_size for item in path.rglob("*") if item.is_file())
    return round(sum(sizes) / 2**20, 1)
