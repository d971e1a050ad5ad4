"""Small networks behind a hidden state, rebuilt from the tensors of a weight file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robo_reward.errors import ConfigError, ModelError, require

from .readings import Vector

Tensors = Mapping[str, Any]


def read_tensors(folder: Path, prefix: str, *, model: Any, what: str) -> dict[str, Any]:
    """Return the tensors of a checkpoint whose names begin alike, the beginning cut off.

    Args:
        folder: Of the checkpoint.
        prefix: How the names begin.
        model: The backbone on whose device they shall be; their numbers are float32.
        what: The reward model that wants them, for the message.

    Raises:
        ConfigError: There are none.
    """
    safetensors = require("safetensors", extra="vlm")
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                if key.startswith(prefix):
                    tensor = file.get_tensor(key).float().to(model.device)
                    found[key.removeprefix(prefix)] = tensor
    if not found:
        raise ConfigError(f"{folder} is no {what}: its files hold no {prefix}*")
    return found


def perceptron(tensors: Tensors, state: Any) -> Vector:
    """Run Robometer's head: linear, layer norm, GELU, (dropout,) linear."""
    from torch.nn import functional

    inner = _norm(tensors, "1.", _linear(tensors, "0.", state.float()))
    return _numbers(_linear(tensors, "4.", functional.gelu(inner)))


def residual(tensors: Tensors, state: Any, *, activation: str) -> Vector:
    """Run RynnValue's head: one linear layer, or a residual network with layer norms (BRO).

    Raises:
        ModelError: There is no such activation.
    """
    from torch.nn import functional

    if "weight" in tensors:
        return _numbers(_linear(tensors, "", state.float()))
    act = getattr(functional, activation, None)
    if act is None:
        raise ModelError(f"a head wants the activation {activation!r}, which torch does not have")
    inner = act(_norm(tensors, "input_norm.", _linear(tensors, "input_layer.", state.float())))
    block = 0
    while f"blocks.{block}.fc1.weight" in tensors:
        name = f"blocks.{block}."
        part = act(_norm(tensors, f"{name}ln1.", _linear(tensors, f"{name}fc1.", inner)))
        inner = inner + _norm(tensors, f"{name}ln2.", _linear(tensors, f"{name}fc2.", part))
        block += 1
    return _numbers(_linear(tensors, "final_layer.", inner))


def _linear(tensors: Tensors, name: str, inner: Any) -> Any:
    from torch.nn import functional

    return functional.linear(inner, tensors[f"{name}weight"], tensors[f"{name}bias"])


def _norm(tensors: Tensors, name: str, inner: Any) -> Any:
    from torch.nn import functional

    scale = tensors[f"{name}weight"]
    return functional.layer_norm(inner, scale.shape, scale, tensors[f"{name}bias"])


def _numbers(made: Any) -> Vector:
    numbers: Vector = made.detach().double().cpu().numpy()
    return numbers
