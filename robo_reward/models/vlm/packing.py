"""Packs passages that begin alike into one row, so that what they share is computed once.

A row is a tree of tokens: a passage is a path from the root, and so is each continuation of it. In
one forward pass every token attends to itself and its ancestors alone (a mask of its own for each
row) and has the position that it has in its passage; hence each path reads exactly what it would
read alone. Earlier frames of an episode, the head of the prompt and the candidates for an answer
all share work this way. The beginning of a row may come from a key-value cache (``known``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .passage import Passage, Picture, Symbols

Tail = tuple[int, ...]
"""Tokens that continue a passage."""

Places = NDArray[np.int64]
"""Positions for the rotary embedding, ``(d, n)``: d is 1, or 3 for time, height and width."""


@dataclass(slots=True, eq=False, kw_only=True)
class Ask:
    """One passage to read, with continuations to weigh.

    Attributes:
        passage: Read once.
        places: Its positions.
        tails: Continuations; of each one all tokens but the last are read.
    """

    passage: Passage
    places: Places
    tails: Sequence[Tail] = ()

    @property
    def symbols(self) -> Symbols:
        """What the passage means, token by token."""
        return np.asarray(self.passage.symbols, np.int64)


@dataclass(slots=True, eq=False, kw_only=True)
class Path:
    """Where an ask stands in its row.

    Attributes:
        ask: Its index.
        nodes: Node of each token of the passage.
        tails: Nodes of each continuation, without its last token.
        which: Index of each of these continuations among those of the ask.
    """

    ask: int
    nodes: list[int]
    tails: list[list[int]]
    which: list[int]


@dataclass(slots=True, eq=False)
class Row:
    """A tree of tokens; parents stand before their children.

    Attributes:
        known: Number of first nodes, one path, whose keys and values are in the cache.
        tokens: Token of each node.
        symbols: What it means.
        parents: Its parent, −1 at the root.
        places: Its position, ``(d,)`` each.
        pictures: Node → picture that begins there.
        paths: The asks in this row.
        bunches: Nodes that read each other.
    """

    known: int = 0
    tokens: list[int] = field(default_factory=list)
    symbols: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    places: list[NDArray[np.int64]] = field(default_factory=list)
    pictures: dict[int, Picture] = field(default_factory=dict)
    paths: list[Path] = field(default_factory=list)
    bunches: list[list[int]] = field(default_factory=list)
    _children: dict[tuple[int, int], int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.tokens)

    def common(self, symbols: Sequence[int]) -> int:
        """Return how many symbols lead along nodes that are there already."""
        node, depth = -1, 0
        for symbol in symbols:
            found = self._children.get((node, symbol))
            if found is None:
                break
            node, depth = found, depth + 1
        return depth

    def add(self, ask: Ask, index: int, *, which: Sequence[int] | None = None) -> None:
        """Take an ask in, with all of its continuations or with some."""
        passage = ask.passage
        nodes: list[int] = []
        node = -1
        for place, (token, symbol) in enumerate(zip(passage.tokens, passage.symbols, strict=True)):
            child = self._child(node, token, symbol, ask.places[:, place])
            if place in passage.pictures and child >= self.known:
                self.pictures[child] = passage.pictures[place]
            node = child
            nodes.append(node)
        after = ask.places.max() + 1 if ask.places.size else 0
        taken = list(range(len(ask.tails)) if which is None else which)
        tails = [self._tail(ask.tails[i][:-1], node, after, len(ask.places)) for i in taken]
        self.paths.append(Path(ask=index, nodes=nodes, tails=tails, which=taken))
        if passage.bunch:
            self.bunches.append(nodes[-passage.bunch :])

    def remember(self, ask: Ask, count: int) -> None:
        """Begin with the first tokens of an ask, whose keys and values are known."""
        node = -1
        for place in range(count):
            passage = ask.passage
            node = self._child(
                node, passage.tokens[place], passage.symbols[place], ask.places[:, place]
            )
        self.known = count

    def mask(self) -> NDArray[np.bool_]:
        """Return which nodes each new node reads, ``(new, known + new)``."""
        size = len(self)
        reads = np.zeros((size, size), bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                reads[node] = reads[parent]
            reads[node, node] = True
        for bunch in self.bunches:
            reads[np.ix_(bunch, bunch)] = True
        return reads[self.known :]

    def _tail(self, tail: Tail, node: int, after: int, dims: int) -> list[int]:
        nodes = []
        for offset, token in enumerate(tail):
            node = self._child(node, token, token, np.full(dims, after + offset, np.int64))
            nodes.append(node)
        return nodes

    def _child(self, node: int, token: int, symbol: int, place: NDArray[np.int64]) -> int:
        found = self._children.get((node, symbol))
        if found is not None:
            return found
        made = len(self.tokens)
        self.tokens.append(token)
        self.symbols.append(symbol)
        self.parents.append(node)
        self.places.append(place)
        self._children[node, symbol] = made
        return made


def pack(
    asks: Sequence[Ask],
    *,
    known: Sequence[int],
    reuse: bool = True,
    longest: int = 4096,
    exchange: float = 1000.0,
) -> list[Row]:
    """Sort asks into rows.

    Args:
        asks: In any order; best with those of one episode behind one another.
        known: How many first symbols of each ask are in a cache; 0 for none.
        reuse: Whether asks may share a row. Without it every row is one path: continuations that
            differ in their last token alone, which is not read, have one row.
        longest: Nodes of a row that takes asks in.
        exchange: How many nodes a token may read in vain for what it costs to read it at all: in a
            row, attention to strangers is computed too, and masked. Thousands for a large model.

    Returns:
        Rows that hold every ask once. An ask joins the row where that saves most, if anywhere.
    """
    if not reuse:
        return [row for index, ask in enumerate(asks) for row in _paths(ask, index)]
    rows: list[Row] = []
    for index, ask in enumerate(asks):
        best, gain = None, 0.0
        for row in rows:
            there = row.common(ask.passage.symbols)
            new = len(ask.passage) - there
            saved = there * exchange - new * len(row)
            hidden = min(ask.passage.wanted) < min(there, row.known)
            if saved > gain and not hidden and len(row) + new <= longest:
                best, gain = row, saved
        if best is None:
            best = Row()
            # What is asked for must be computed, hence must not be known.
            best.remember(ask, min(known[index], min(ask.passage.wanted)))
            rows.append(best)
        best.add(ask, index)
    return rows


def _paths(ask: Ask, index: int) -> list[Row]:
    """Return one row for each different text that is read of an ask."""
    groups: dict[Tail, list[int]] = {}
    for which, tail in enumerate(ask.tails):
        groups.setdefault(tuple(tail[:-1]), []).append(which)
    rows = []
    for chosen in groups.values() or [[]]:
        row = Row()
        row.add(ask, index, which=chosen)
        rows.append(row)
    return rows
