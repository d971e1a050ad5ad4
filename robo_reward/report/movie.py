"""Pictures to gif and mp4."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robo_reward.errors import DeviceError, require

if TYPE_CHECKING:
    from PIL.Image import Image

CODECS = ("vp09", "mp4v")
"""Tried in this order: OpenCV's wheels hold no H.264; browsers play VP9, not MPEG-4 part 2."""

ATTEMPTS = ((216, 1), (128, 1), (64, 1), (64, 2), (32, 2), (32, 3), (24, 4))
"""(colours, keep one picture in so many): from fine to coarse, until a gif fits."""


Colour = tuple[int, int, int]


def write_gif(
    path: Path,
    pictures: Sequence[Image],
    *,
    rate_hz: float,
    hold_s: float,
    max_mb: float,
    fixed: Sequence[Colour] = (),
) -> Path:
    """Write an endless gif of at most ``max_mb``; the coarsest attempt stays if none fits.

    Args:
        path: The file.
        pictures: RGB pictures of one size.
        rate_hz: Pictures per second.
        hold_s: How long the last one stands, seconds.
        max_mb: Largest size, MB.
        fixed: Colours that must be in the palette however few pixels have them.
    """
    require("PIL", extra="viz")
    for colours, stride in ATTEMPTS:
        kept = list(pictures[::-1][::stride][::-1])
        palette = _palette(pictures, colours=colours, fixed=fixed)
        _write_gif(path, kept, palette=palette, rate_hz=rate_hz / stride, hold_s=hold_s)
        if path.stat().st_size <= max_mb * 1e6:
            break
    return path


def _palette(pictures: Sequence[Image], *, colours: int, fixed: Sequence[Colour]) -> Image:
    # One palette for the whole film, from a few pictures: colours do not flicker, and what stands
    # still is not stored again.
    from PIL import Image

    # Thinned, not averaged: a small red thing must stay red.
    wide, tall = (side // 2 for side in pictures[0].size)
    nearest = Image.Resampling.NEAREST
    sample = [p.resize((wide, tall), nearest) for p in pictures[:: max(1, len(pictures) // 6)]]
    board = Image.new("RGB", (wide, tall * len(sample)))
    for index, picture in enumerate(sample):
        board.paste(picture, (0, tall * index))
    # Median cut follows the many pixels (smooth tables), maximum coverage the few (a red cube).
    many, few = colours * 2 // 3, colours - colours * 2 // 3
    values: list[int] = []
    for method, count in ((Image.Quantize.MEDIANCUT, many), (Image.Quantize.MAXCOVERAGE, few)):
        made = board.quantize(count, method=method).getpalette() or []
        values += made[: 3 * count]
    values += [part for colour in fixed for part in colour]
    palette = Image.new("P", (1, 1))
    palette.putpalette(values[: 3 * 256])
    return palette


def _write_gif(
    path: Path, pictures: Sequence[Image], *, palette: Image, rate_hz: float, hold_s: float
) -> None:
    from PIL import Image

    frames = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    # Browsers slow down anything below 20 ms.
    period = max(20, round(1000 / rate_hz))
    durations = [period] * (len(frames) - 1) + [max(period, round(1000 * hold_s))]
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False
    )


def write_mp4(path: Path, pictures: Sequence[Image], *, rate_hz: float, hold_s: float) -> Path:
    """Write an mp4; the last picture is repeated for ``hold_s`` seconds.

    Raises:
        DeviceError: This build of OpenCV can write no mp4.
    """
    cv2 = require("cv2", extra="camera")
    wide, tall = pictures[0].size
    held = list(pictures) + [pictures[-1]] * round(hold_s * rate_hz)
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        for codec in CODECS:
            code = cv2.VideoWriter_fourcc(*codec)
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, rate_hz, (wide, tall))
            if not writer.isOpened():
                continue
            for picture in held:
                writer.write(np.ascontiguousarray(np.asarray(picture)[:, :, ::-1]))
            writer.release()
            return path
    finally:
        cv2.utils.logging.setLogLevel(before)
    raise DeviceError(f"this OpenCV writes no mp4 ({', '.join(CODECS)} tried); write a .gif")
