"""Finds a checkpoint, here or on the hub, and says what it is before anything heavy is loaded."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import urllib.parse
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from robo_reward.errors import ConfigError, MissingDependency, ModelNotFound, require

PROBE_S = 3.0
SAMPLES = 64
SAMPLE_BYTES = 4096
BACKBONE = (
    *("text_config", "vision_config", "image_token_id", "video_token_id"),
    *("vision_start_token_id", "vision_end_token_id", "tie_word_embeddings"),
)
"""Keys of a configuration that say what the backbone is."""
FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A folder with a configuration, weights and a tokenizer.

    Attributes:
        name: As it was asked for.
        folder: Where it lies.
        kind: ``model_type`` of its configuration.
        words: Folder of tokenizer and preprocessor: the same, or that of the base it names.
        inner: Configuration of the backbone where that of the folder is one of something around it.
        version: Hash that names the weights, 12 hex digits; see ``fingerprint``.
    """

    name: str
    folder: Path
    kind: str
    words: Path
    version: str
    inner: dict[str, Any] | None = None


def find_checkpoint(
    name: str,
    *,
    kinds: Collection[str],
    model: str,
    stands_for: Mapping[str, str] = MappingProxyType({}),
    offline: bool = False,
) -> Checkpoint:
    """Find a checkpoint and check that a model can be built on it.

    Args:
        name: Folder or hub id.
        kinds: Values of ``model_type`` that fit.
        model: Name of the reward model, for messages.
        stands_for: ``model_type`` that transformers does not know → the one it is at heart.
        offline: Whether the hub is never asked.

    Raises:
        ModelNotFound: There is neither such a folder nor could this be a hub id.
        MissingDependency: The weights are not here and cannot be fetched, or are pickled.
        ConfigError: It is a checkpoint of something else.
    """
    folder = fetch(name, model=model, offline=offline)
    config = read_config(folder, name)
    inner = config.get("vlm_config")
    kind = str((inner or config).get("model_type"))
    if kind not in kinds:
        raise ConfigError(
            f"{name} is a {kind} checkpoint; {model} runs on {', '.join(sorted(kinds))}"
        )
    if not any(folder.glob("*.safetensors")):
        raise MissingDependency(
            f"{name} holds no .safetensors file; pickled weights are not loaded: convert them first"
        )
    if kind in stands_for:
        kind = stands_for[kind]
        inner = {"model_type": kind, **{key: config[key] for key in BACKBONE if key in config}}
    words, base = folder, str(config.get("base_model_id", ""))
    if base and not (folder / "tokenizer_config.json").is_file():
        words = fetch(base, model=model, offline=offline)
    return Checkpoint(
        name=name,
        folder=folder,
        kind=kind,
        words=words,
        version=fingerprint(folder),
        inner=inner,
    )


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Return ``config.json`` of a folder.

    Raises:
        ConfigError: There is none, or it is no JSON object.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name} is no checkpoint: config.json: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{name} is no checkpoint: config.json holds no object")
    return config


def fetch(name: str, *, model: str, offline: bool) -> Path:
    """Return the folder of a checkpoint or adapter, fetching it from the hub where need be.

    Raises:
        ModelNotFound: There is neither such a folder nor could this be a hub id.
        MissingDependency: It is not here and cannot be fetched.
    """
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelNotFound(f"{model}: there is no folder {name}, and it is no hub id (OWNER/NAME)")
    hub = require("huggingface_hub", extra="vlm")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=FILES, local_files_only=True))
    except (OSError, ValueError):
        pass  # not here yet
    instead = f"name a folder that holds them: --model {model}=FOLDER"
    if offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise MissingDependency(
            f"the weights {name} are not on this machine and the hub may not be asked; {instead}"
        )
    if not _hub_answers():
        raise MissingDependency(
            f"the weights {name} are not on this machine and the hub does not answer; {instead}"
        )
    logger.info("fetching %s from the hub; this may be gigabytes", name)
    try:
        return Path(hub.snapshot_download(name, allow_patterns=FILES))
    except (OSError, ValueError) as error:
        why = str(error).strip().splitlines()[0]
        raise MissingDependency(f"{name} could not be fetched ({why}); {instead}") from error


def fingerprint(folder: Path) -> str:
    """Name weights by what they are, without reading gigabytes.

    SHA-256 over the JSON of the configuration and, of every weight file, its size, the table of its
    tensors and ``SAMPLES`` evenly spread samples of its bytes, cut to 12 hex digits.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as file:
            table = int.from_bytes(file.read(8), "little")
            digest.update(file.read(min(table, size)))
            for index in range(SAMPLES):
                file.seek(index * max(0, size - SAMPLE_BYTES) // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    for name in ("config.json", "adapter_config.json"):
        path = folder / name
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _hub_answers() -> bool:
    """Whether the hub can be reached: without network its client hangs for half a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True  # what a proxy can reach is for it to say
    address = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=PROBE_S):
            return True
    except OSError:
        return False
