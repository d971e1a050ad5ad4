"""The overlay: a camera beside the growing curves of all signals, as gif or mp4.

Drawn with Pillow alone at three times the size and shrunk, which is faster per frame than a
plotting library and needs no display.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robo_reward.errors import ConfigError, require
from robo_reward.signals import SIGNALS, Score

from .movie import write_gif, write_mp4
from .palette import ON_DARK, WORDS

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

SCALE = 3
"""Drawn at this many times the final size."""
WIDTH, HEIGHT = 880, 440
CAMERA = 400
PAD = 20
FILM_FRAMES = 600
"""Frames of a film at most; of a longer episode each n-th one."""
FILM_HEIGHT = 400
"""Height below which frames are not made smaller, pixels."""
BACK, PANEL, GRID, INK, SOFT = "#0f1318", "#171c23", "#2a323c", "#eef1f4", "#8d99a6"
FLASH = 4
"""Frames for which the picture's frame shines after the gate opens."""

Rows = tuple[tuple[str, float], ...]
ROWS: Rows = (
    ("progress", 1.5),
    ("progress_delta", 1.0),
    ("contrastive", 1.0),
    ("done", 1.2),
    ("uncertainty", 0.7),
)
"""Signals from top to bottom and their relative heights."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OverlayScores:
    """What is drawn beside T frames; NaN leaves a gap.

    Attributes:
        progress: ``(T,)`` in [0, 1].
        progress_delta: ``(T,)`` in [-1, 1].
        done: ``(T,)`` in [0, 1].
        contrastive: ``(T,)`` in [-1, 1].
        uncertainty: ``(T,)`` in [0, 1].
        is_done: ``(T,) bool``, the gate's decision; the first one makes the flash.
    """

    progress: NDArray[np.float32]
    progress_delta: NDArray[np.float32]
    done: NDArray[np.float32]
    contrastive: NDArray[np.float32]
    uncertainty: NDArray[np.float32]
    is_done: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, scores: Sequence[Score], *, is_done: Sequence[bool] = ()) -> OverlayScores:
        """Take the signals of one score per frame, and the gate's decisions where there are any."""
        columns = {
            name: np.array([getattr(score.signals, name) for score in scores], np.float32)
            for name in SIGNALS
        }
        return cls(**columns, is_done=np.array(is_done, bool) if is_done else None)

    def __len__(self) -> int:
        """Number of frames T."""
        return len(self.progress)


def shrunk(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Leave out rows and columns, so that a film of many frames stays small in memory."""
    step = max(1, image.shape[0] // FILM_HEIGHT)
    return image[::step, ::step].copy()


def overlay(
    frames: NDArray[np.uint8],
    scores: OverlayScores,
    path: Path,
    *,
    instruction: str = "",
    rate_hz: float = 12.0,
    hold_s: float = 1.5,
    max_mb: float = 5.0,
) -> Path:
    """Write a film of the camera beside the signals.

    Args:
        frames: ``(T, H, W, 3) uint8 RGB``.
        scores: The signals of the same T frames.
        path: ``.gif`` or ``.mp4``.
        instruction: Written below the camera.
        rate_hz: Frames per second.
        hold_s: How long the last picture stands, seconds.
        max_mb: A gif is written with fewer colours, then fewer frames, until it fits, MB.

    Returns:
        The path.

    Raises:
        ConfigError: Lengths differ, or the suffix is neither ``.gif`` nor ``.mp4``.
        MissingDependency: Pillow, or OpenCV for mp4, is not installed.
    """
    if len(frames) != len(scores) or not len(frames):
        raise ConfigError(f"overlay got {len(frames)} frames and {len(scores)} scores")
    if path.suffix not in (".gif", ".mp4"):
        raise ConfigError(f"overlay writes .gif or .mp4, got {path.name!r}")
    require("PIL", extra="viz")
    painter = _Painter(scores, instruction=instruction)
    pictures = [painter.paint(frame, step) for step, frame in enumerate(frames)]
    last = len(frames) - 1
    pictures += [painter.paint(frames[last], last, late=n + 1) for n in range(painter.late)]
    if path.suffix == ".gif":
        return write_gif(
            path, pictures, rate_hz=rate_hz, hold_s=hold_s, max_mb=max_mb, fixed=_shades()
        )
    return write_mp4(path, pictures, rate_hz=rate_hz, hold_s=hold_s)


@dataclass(frozen=True, slots=True)
class _Row:
    """One curve: its place in final pixels and its range."""

    name: str
    top: float
    bottom: float
    low: float
    high: float
    values: NDArray[np.float32]

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.bottom - float(np.clip(share, 0.0, 1.0)) * (self.bottom - self.top)


class _Painter:
    """Draws one picture per step; what never changes is drawn once."""

    def __init__(self, scores: OverlayScores, *, instruction: str) -> None:
        self.scores = scores
        self.instruction = instruction
        self.left = PAD + CAMERA + 34
        self.right = WIDTH - PAD - 66
        self.rows = _layout(scores)
        self.fonts: dict[int, FreeTypeFont | ImageFont] = {}
        decisions = scores.is_done if scores.is_done is not None else np.zeros(len(scores), bool)
        self.fired = int(np.argmax(decisions)) if decisions.any() else None
        # A flash that the end of the episode would cut off goes on over the last frame.
        self.late = max(0, FLASH - len(scores) + self.fired + 1) if self.fired is not None else 0
        self.base = self._base()
        self.mask = _rounded(CAMERA, fill=255)
        self.ring = _rounded(CAMERA, outline=255, width=4 * SCALE)

    def paint(self, frame: NDArray[np.uint8], step: int, *, late: int = 0) -> Image:
        """Return the picture of one step, or the one ``late`` pictures after the last step."""
        from PIL import ImageDraw

        picture = self.base.copy()
        draw = ImageDraw.Draw(picture)
        for row in self.rows:
            self._curve(draw, row, step)
        small = picture.reduce(SCALE)
        age = None if self.fired is None else step + late - self.fired
        self._camera(small, frame, age=age)
        return small

    def x(self, step: float) -> float:
        """Return where a step stands, final pixels."""
        return self.left + step / max(1, len(self.scores) - 1) * (self.right - self.left)

    def font(self, size: int) -> FreeTypeFont | ImageFont:
        """Return Pillow's own font, so that pictures look the same on every machine."""
        from PIL import ImageFont

        if size not in self.fonts:
            self.fonts[size] = ImageFont.load_default(size * SCALE)
        return self.fonts[size]

    def _base(self) -> Image:
        from PIL import Image, ImageDraw

        picture = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), BACK)
        draw = ImageDraw.Draw(picture)
        for row in self.rows:
            self._grid(draw, row)
        return picture

    def _grid(self, draw: ImageDraw, row: _Row) -> None:
        self._text(draw, WORDS[row.name], self.left, row.top - 18, 13, ON_DARK[row.name])
        for value in (0.0, 1.0) if row.low == 0 else (0.0,):
            y = row.y(value)
            self._line(draw, [(self.left, y), (self.right, y)], GRID, 1.0)

    def _curve(self, draw: ImageDraw, row: _Row, step: int) -> None:
        colour = ON_DARK[row.name]
        seen = row.values[: step + 1]
        run: list[tuple[float, float]] = []
        for index, value in enumerate(seen):
            if np.isfinite(value):
                run.append((self.x(index), row.y(float(value))))
            else:
                self._stroke(draw, row, run)
                run = []
        self._stroke(draw, row, run)
        newest = float(seen[-1])
        if not np.isfinite(newest):
            return
        x, y, r = self.x(step), row.y(newest), 4.0
        box = [(x - r) * SCALE, (y - r) * SCALE, (x + r) * SCALE, (y + r) * SCALE]
        draw.ellipse(box, fill=colour)
        signed = row.low < 0
        text = f"{newest:+.2f}" if signed else f"{newest:.2f}"
        middle = (row.top + row.bottom) / 2
        self._text(draw, text, WIDTH - PAD, middle - 9, 17, colour, anchor="ra")

    def _stroke(self, draw: ImageDraw, row: _Row, run: Sequence[tuple[float, float]]) -> None:
        if len(run) < 2:
            return
        zero = row.y(0.0)
        shape = [(run[0][0], zero), *run, (run[-1][0], zero)]
        shade = _mix(ON_DARK[row.name], 0.16)
        draw.polygon([(x * SCALE, y * SCALE) for x, y in shape], fill=shade)
        self._line(draw, run, ON_DARK[row.name], 2.2)

    def _camera(self, picture: Image, frame: NDArray[np.uint8], *, age: int | None) -> None:
        from PIL import Image

        shown = Image.fromarray(frame).resize((CAMERA, CAMERA), Image.Resampling.BICUBIC)
        done = age is not None and age >= 0
        if age is not None and 0 <= age < FLASH:
            glow = Image.new("RGB", shown.size, ON_DARK["done"])
            shown = Image.blend(shown, glow, 0.45 * (1 - age / FLASH))
        picture.paste(shown, (PAD, PAD), self.mask)
        if done:
            picture.paste(ON_DARK["done"], (PAD, PAD, PAD + CAMERA, PAD + CAMERA), self.ring)
        self._caption(picture, done=done)

    def _caption(self, picture: Image, *, done: bool) -> None:
        from PIL import Image, ImageDraw

        # Drawn large and shrunk like everything else, on the part of the picture that it covers.
        box = (0, HEIGHT - 74, PAD + CAMERA + 4, HEIGHT)
        part = picture.crop(box)
        large = part.resize((part.width * SCALE, part.height * SCALE), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(large, "RGBA")
        if self.instruction:
            text = _fitted(draw, self.instruction, self.font(13), (CAMERA - 44) * SCALE)
            wide = draw.textlength(text, self.font(13)) / SCALE
            plate = [PAD + 10, 16, PAD + 30 + wide, 44]
            self._plate(draw, plate, (15, 19, 24, 205))
            self._text(draw, text, PAD + 20, 23, 13, INK)
        picture.paste(large.reduce(SCALE), box[:2])
        if done:
            self._badge(picture)

    def _badge(self, picture: Image) -> None:
        from PIL import Image, ImageDraw

        box = (PAD + CAMERA - 96, PAD + 6, PAD + CAMERA - 4, PAD + 50)
        part = picture.crop(box)
        large = part.resize((part.width * SCALE, part.height * SCALE), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(large, "RGBA")
        self._plate(draw, [6, 6, 86, 36], ON_DARK["done"])
        self._text(draw, "DONE", 46, 13, 15, BACK, anchor="ma")
        picture.paste(large.reduce(SCALE), box[:2])

    def _plate(self, draw: ImageDraw, box: Sequence[float], fill: Any) -> None:
        draw.rounded_rectangle([v * SCALE for v in box], 8 * SCALE, fill=fill)

    def _text(
        self,
        draw: ImageDraw,
        text: str,
        x: float,
        y: float,
        size: int,
        colour: str,
        *,
        anchor: str = "la",
    ) -> None:
        draw.text((x * SCALE, y * SCALE), text, colour, self.font(size), anchor=anchor)

    def _line(
        self, draw: ImageDraw, points: Sequence[tuple[float, float]], colour: str, width: float
    ) -> None:
        large = [(x * SCALE, y * SCALE) for x, y in points]
        if len(large) > 1:
            draw.line(large, colour, round(width * SCALE), joint="curve")


def _rounded(
    size: int, *, fill: int | None = None, outline: int | None = None, width: int = 1
) -> Image:
    """Return a mask of a square with round corners, drawn large and shrunk."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", (size * SCALE, size * SCALE), 0)
    edge = [0, 0, size * SCALE - 1, size * SCALE - 1]
    draw = ImageDraw.Draw(mask)
    draw.rounded_rectangle(edge, 12 * SCALE, fill=fill, outline=outline, width=width)
    return mask.reduce(SCALE)


def _mix(colour: str, share: float) -> tuple[int, int, int]:
    """Return this share of a colour over the background."""
    over, under = (
        [int(text[place : place + 2], 16) for place in (1, 3, 5)] for text in (colour, BACK)
    )
    red, green, blue = (
        round(share * a + (1 - share) * b) for a, b in zip(over, under, strict=True)
    )
    return red, green, blue


def _shades() -> list[tuple[int, int, int]]:
    """Return the colours of curves and words with their soft edges, for the gif's palette."""
    colours = [*(ON_DARK[name] for name, _ in ROWS), INK, GRID]
    return [_mix(colour, share) for colour in colours for share in (1.0, 0.8, 0.55, 0.35, 0.16)]


def _layout(scores: OverlayScores) -> list[_Row]:
    given = {name: np.asarray(getattr(scores, name), np.float32) for name, _ in ROWS}
    rows = [(name, height) for name, height in ROWS if np.isfinite(given[name]).any()]
    gap = 34.0
    unit = (HEIGHT - 2 * PAD - gap * len(rows) + 8) / sum(height for _, height in rows)
    found, top = [], float(PAD)
    for name, height in rows:
        top += gap - 8
        bottom = top + unit * height
        low, high = _range(name, given[name])
        found.append(_Row(name, top, bottom, low, high, given[name]))
        top = bottom + 8
    return found


def _range(name: str, values: NDArray[np.float32]) -> tuple[float, float]:
    if name == "contrastive":
        return -1.0, 1.0
    if name == "progress_delta":
        # One step changes little: its own scale, but never so fine that noise looks like a signal.
        reach = max(0.05, float(np.nanmax(np.abs(values))))
        return -reach, reach
    return 0.0, 1.0


def _fitted(draw: ImageDraw, text: str, font: FreeTypeFont | ImageFont, width: float) -> str:
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "...", font) > width:
        text = text[:-1]
    return text.rstrip() + "..."
