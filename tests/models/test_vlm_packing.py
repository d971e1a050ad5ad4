"""Trees of tokens, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from robo_reward.models.vlm.packing import Ask, pack
from robo_reward.models.vlm.passage import Passage, shared
from robo_reward.models.vlm.prefixes import Prefix, Prefixes


def ask(*tokens: int, tails: tuple[tuple[int, ...], ...] = ()) -> Ask:
    passage = Passage()
    passage.write(list(tokens))
    return Ask(passage=passage, places=np.arange(len(tokens))[None], tails=tails)


def test_two_passages_share_their_beginning() -> None:
    asks = [ask(1, 2, 3, 7, tails=((8, 9), (8, 5), (4,))), ask(1, 2, 3, 4, 5)]
    (row,) = pack(asks, known=[0, 0])
    # 7 and its continuation 8 (a last token is not read), then 4 and 5 beside them.
    assert row.tokens == [1, 2, 3, 7, 8, 4, 5]
    assert row.parents == [-1, 0, 1, 2, 3, 2, 5]
    assert [int(place[0]) for place in row.places] == [0, 1, 2, 3, 4, 3, 4]
    assert row.paths[0].nodes == [0, 1, 2, 3]
    assert row.paths[0].tails == [[4], [4], []]
    assert row.paths[1].nodes == [0, 1, 2, 5, 6]
    reads = row.mask()
    assert np.flatnonzero(reads[4]).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(reads[6]).tolist() == [0, 1, 2, 5, 6]


def test_what_is_known_is_not_read_again() -> None:
    (row,) = pack([ask(1, 2, 3, 4)], known=[2])
    assert (row.known, len(row)) == (2, 4)
    assert row.mask().tolist() == [[True, True, True, False], [True, True, True, True]]


def test_what_is_asked_for_is_read_even_where_it_is_known() -> None:
    (row,) = pack([ask(1, 2, 3, 4)], known=[4])
    assert row.known == 3
    first = ask(1, 2, 3, 4, 5, 6)
    second = ask(1, 2, 3)  # its last token is among what is known of the first
    rows = pack([first, second], known=[4, 0])
    assert [row.known for row in rows] == [4, 0]


def test_strangers_get_rows_of_their_own() -> None:
    asks = [ask(1, 2, 3, 4, 5), ask(1, 9, 9, 9, 9), ask(1, 2, 3, 6, 6)]
    # The third saves 3 tokens, worth 8 nodes each, and reads 2 · 5 in vain; the second 1 and 4 · 5.
    rows = pack(asks, known=[0] * 3, exchange=8)
    assert [[path.ask for path in row.paths] for row in rows] == [[0, 2], [1]]
    assert len(pack(asks, known=[0] * 3, exchange=8, longest=6)) == 3
    assert len(pack(asks, known=[0] * 3, exchange=1000)) == 1
    rows = pack([ask(1, 2, tails=((3,), (4, 5), (6,)))], known=[0], reuse=False)
    assert [row.tokens for row in rows] == [[1, 2], [1, 2, 4]]
    assert [row.paths[0].which for row in rows] == [[0, 2], [1]]


def symbols(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, np.int64)


def test_prefixes_keep_the_longest_and_forget_the_oldest() -> None:
    assert shared(symbols(1, 2, 3), symbols(1, 2, 4, 5)) == 2
    assert shared(symbols(1, 2), symbols(1, 2, 4)) == 2
    kept = Prefixes(tokens=7)
    kept.keep(Prefix(symbols=symbols(1, 2), layers=[]))
    kept.keep(Prefix(symbols=symbols(1, 2, 3), layers=[]))  # continues the first
    assert kept.size == 3
    kept.keep(Prefix(symbols=symbols(5, 6, 7, 8), layers=[]))
    found, count = kept.find(symbols(1, 2, 9))
    assert found is not None
    assert (found.symbols.tolist(), count) == ([1, 2, 3], 2)
    kept.keep(Prefix(symbols=symbols(4), layers=[]))
    assert kept.find(symbols(5, 6)) == (None, 0)  # unused for longest
    assert kept.find(symbols(1))[1] == 1
