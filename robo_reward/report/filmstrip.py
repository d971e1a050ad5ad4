"""Film strips: a few pictures of an episode side by side."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GAP = 3
"""Pixels between two pictures."""


def film_strip(images: NDArray[np.uint8], *, height: int = 96) -> NDArray[np.uint8]:
    """Put pictures side by side, thinned or repeated to about the wanted height.

    Args:
        images: ``(n, H, W, 3) uint8 RGB``.
        height: Wanted height, pixels; whole factors only, so that no library is needed.

    Returns:
        ``(h, w, 3) uint8 RGB`` on white.
    """
    thin, repeat = max(1, images.shape[1] // height), max(1, height // images.shape[1])
    small = images[:, ::thin, ::thin].repeat(repeat, axis=1).repeat(repeat, axis=2)
    count, tall, wide, _ = small.shape
    strip = np.full((tall, count * (wide + GAP) - GAP, 3), 255, np.uint8)
    for index, picture in enumerate(small):
        strip[:, index * (wide + GAP) : index * (wide + GAP) + wide] = picture
    return strip


def data_uri(image: NDArray[np.uint8], *, quality: int = 85) -> str:
    """Return the picture as a JPEG data URI.

    Args:
        image: ``(H, W, 3) uint8 RGB``.
        quality: 1–100.
    """
    import simplejpeg

    data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def strip_html(images: NDArray[np.uint8], *, frames: Sequence[int], height: int = 96) -> str:
    """Return a film strip as one ``<img>`` with the frame numbers in its alternative text."""
    numbers = ", ".join(str(frame) for frame in frames)
    source = data_uri(film_strip(images, height=height))
    return f'<img class="strip" alt="frames {numbers}" src="{source}">'
