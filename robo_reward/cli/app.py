"""From ``argv`` to an exit code: find the verb, parse its flags, run it, print the result."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from robo_reward.errors import RoboRewardError, did_you_mean

from .verbs import VERBS

if TYPE_CHECKING:
    from .common import Common, Result

HEAD = """usage: robo-reward VERB [FLAGS]

Rewards from camera frames, for reinforcement learning on robots.

verbs:
"""
TAIL = """
robo-reward VERB --help says more. Results go to stdout (one JSON object with --json), everything
else to stderr. Exit codes: 0 done, 1 failed, 2 usage, 3 something is not installed, 4 camera, GPU
or port, 5 nobody answers, 6 unreadable data or another version, 70 stalled, 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; those of the process when not given.

    Returns:
        The exit code.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        sys.stdout.write(help_text())
        return 0 if args else 2
    if args[0] == "--version":
        from robo_reward import __version__

        sys.stdout.write(f"robo-reward {__version__}\n")
        return 0
    if args[0] not in VERBS:
        return _complain(f"robo-reward has no verb {args[0]!r}; {did_you_mean(args[0], VERBS)}", 2)
    return _run_verb(args[0], args[1:])


def help_text() -> str:
    """Return the help of the whole command."""
    lines = [f"  {name:<14}{text}" for name, (_, _, text) in VERBS.items()]
    return HEAD + "\n".join(lines) + "\n" + TAIL


def load_verb(name: str) -> type[Common]:
    """Import the class of a verb."""
    module, attribute, _ = VERBS[name]
    verb: type[Common] = getattr(importlib.import_module(module), attribute)
    return verb


def _run_verb(name: str, args: list[str]) -> int:
    _prepare_graphics()
    verbose = "-v" in args or "--verbose" in args
    try:
        from .parsing import parse

        command = parse(name, load_verb(name), args)
        _start_log(command)
        result = command.run()
        _print_result(command, result)
        return command.exit_code(result)
    except SystemExit as stop:
        return _code_of(stop)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        # Whoever read stdout is gone; Python must not try to flush it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except RoboRewardError as error:
        return _complain(str(error), error.exit_code, trace=verbose)
    except OSError as error:
        return _complain(f"{error}; check the path and its permissions", 1, trace=verbose)
    except Exception as error:
        # A bug: still one line, for this may be the foreground of a robot's terminal.
        text = f"{type(error).__name__}: {error}; this is a bug, -v shows where"
        return _complain(text, 1, trace=verbose)


def _prepare_graphics() -> None:
    # Must stand in the environment before the first `import mujoco`; llvmpipe renders these small
    # images fastest in the calling thread.
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("LP_NUM_THREADS", "0")


def _start_log(command: Common) -> None:
    level = logging.ERROR if command.quiet else logging.DEBUG if command.verbose else logging.INFO
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
    logging.getLogger("robo_reward").setLevel(level)
    logging.captureWarnings(True)


def _print_result(command: Common, result: Result) -> None:
    if command.json or command.always_json:
        from .plain import plain

        text = json.dumps(plain(result), allow_nan=False)
    else:
        text = command.show(result)
    if text:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _complain(text: str, code: int, *, trace: bool = False) -> int:
    if trace:
        traceback.print_exc()
    line = " ".join(text.split()) or "failed without a message; -v shows where"
    sys.stderr.write(f"error: {line}\n")
    return code


def _code_of(stop: SystemExit) -> int:
    if isinstance(stop.code, str):
        return _complain(stop.code, 1)
    return stop.code or 0
