"""How unlike its training pictures a picture is: a Gaussian over pooled features of an encoder.

The ensemble of the compact model shares one trunk, so that its members agree about a picture that
none of them knows. Its features do not: mean and standard deviation of each channel over the map
lie, for everything that was trained on, near one Gaussian, and its Mahalanobis distance (Lee et al.
2018, arXiv 1807.03888) says how far away a picture is. One small matrix per encoded frame.

The distance becomes ``strangeness``, 0 for what training looked like and rising to 1:

    strangeness = 1 - exp(-max(0, distance - knee) / scale)

and uncertainty = spread + (1 - spread) · strangeness, where spread is the ensemble's own. So a
familiar frame keeps the ensemble's value exactly, no frame gets less, and a stranger one gets more.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from robo_reward.errors import ModelError

from .weights import write_weights

FILE = "density.safetensors"
"""Name of the file beside the weights."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Density:
    """A fitted Gaussian and what its distances mean.

    Attributes:
        mean: ``(2C,) float32``: of the pooled features of C channels.
        whiten: ``(2C, 2C) float32``: takes pooled features to unit variance.
        knee: Distance up to which a frame is familiar.
        scale: Distance beyond the knee at which strangeness is 1 - 1/e.
    """

    mean: Tensor
    whiten: Tensor
    knee: float
    scale: float

    def distance(self, maps: Tensor) -> Tensor:
        """Return root mean square of the whitened features, ``(n,)``; about 1 for a familiar frame.

        Args:
            maps: ``(n, C, s, s)`` from the encoder.
        """
        return ((pooled(maps) - self.mean) @ self.whiten).square().mean(1).sqrt()

    def strangeness(self, maps: Tensor) -> Tensor:
        """Return how strange frames are, ``(n,)`` in [0, 1]; 0 up to the knee."""
        beyond = (self.distance(maps) - self.knee).clamp_min(0.0)
        return -torch.expm1(-beyond / self.scale)

    def to(self, device: str) -> Density:
        """Return the same on another device."""
        return Density(
            mean=self.mean.to(device),
            whiten=self.whiten.to(device),
            knee=self.knee,
            scale=self.scale,
        )

    def save(self, folder: Path, *, fitted_on: str) -> Path:
        """Write it beside the weights of ``folder``, which it then belongs to; whole or not at all.

        Args:
            folder: Holds ``model.safetensors``.
            fitted_on: The data, for people.
        """
        path = folder / FILE
        about = {
            "knee": self.knee,
            "scale": self.scale,
            "weights": weights_hash(folder),
            "fitted_on": fitted_on,
        }
        # One entry: the same fit is the same bytes.
        write_weights(
            {"mean": self.mean.contiguous(), "whiten": self.whiten.contiguous()},
            path,
            metadata={"density": json.dumps(about)},
        )
        return path

    @classmethod
    def load(cls, folder: Path) -> Density | None:
        """Read the one beside the weights of ``folder``; ``None`` where there is none.

        Raises:
            ModelError: It cannot be read, or was fitted on other weights.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        again = f"python -m robo_reward.training.density {folder} fits it again"
        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()["density"])
                mean, whiten = file.get_tensor("mean"), file.get_tensor("whiten")
            made = cls(
                mean=mean, whiten=whiten, knee=float(about["knee"]), scale=float(about["scale"])
            )
            weights = about["weights"]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} cannot be read ({error}); {again}") from error
        if weights != weights_hash(folder):
            raise ModelError(f"{path} was fitted on other weights than those beside it; {again}")
        return made


def pooled(maps: Tensor) -> Tensor:
    """Return mean and standard deviation of every channel over the map, ``(n, 2C) float32``."""
    # Cells before channels, as an encoder's output lies in memory, and in two passes: a seventh of
    # what std_mean takes over the last two axes.
    cells = maps.float().permute(0, 2, 3, 1).flatten(1, 2)
    mean = cells.mean(1, keepdim=True)
    deviation = ((cells - mean).square().sum(1) / (cells.shape[1] - 1)).sqrt()
    return torch.cat([mean[:, 0], deviation], 1)


def weights_hash(folder: Path) -> str:
    """Hash of the weights in a model's folder, 12 hex digits."""
    return hashlib.blake2b((folder / "model.safetensors").read_bytes(), digest_size=6).hexdigest()
