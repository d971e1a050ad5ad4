"""A vision-language model as an instrument: pictures seen once, prompts read once, no text."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robo_reward.errors import OutOfMemoryError
from robo_reward.frames import Image

from .checkpoint import Checkpoint, find_checkpoint
from .families import FAMILIES, Seen, see
from .loading import add_adapter, load
from .options import VlmOptions
from .packing import Ask, Places, Row, Tail, pack
from .passage import Passage, Picture
from .prefixes import Prefix, Prefixes
from .writer import Writer

PICTURES = 16
"""In one pass through the vision tower."""
LOGITS = 256
"""Hidden states that go through the output layer at once: each becomes a row of the vocabulary."""

Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)


class Backbone:
    """A loaded checkpoint.

    Args:
        checkpoint: Where it lies.
        options: How it is loaded and asked.
        device: Where it runs.
        renamed: See ``loading.load``.
        signs: See ``loading.load``.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: VlmOptions,
        *,
        device: str,
        renamed: Mapping[str, str] = MappingProxyType({}),
        signs: Sequence[str] = (),
    ) -> None:
        loaded = load(checkpoint, options, device=device, renamed=renamed, signs=signs)
        self.checkpoint = checkpoint
        self.model = loaded.model
        self.processor = loaded.processor
        self.family = FAMILIES[checkpoint.kind]
        self.writer = Writer(loaded.tokenizer, family=self.family, name=checkpoint.name)
        self.batch = options.batch
        self.reuse = options.reuse and options.attention != "flash_attention_2"
        text = self.model.config.get_text_config()
        # A token costs 2 operations a weight; reading a node 4 a layer and channel.
        depth = text.hidden_size * text.num_hidden_layers
        self.exchange = self.parameters / (2 * depth)
        self.prefixes = Prefixes()
        self.read_tokens = 0
        self._worn: dict[str, Prefixes] = {}
        self.continues = True

    @classmethod
    def find(
        cls,
        options: VlmOptions,
        *,
        default: str,
        model: str,
        device: str,
        kinds: Collection[str],
        stands_for: Mapping[str, str] = MappingProxyType({}),
        renamed: Mapping[str, str] = MappingProxyType({}),
        signs: Sequence[str] = (),
    ) -> Backbone:
        """Load the checkpoint that the options name, or the one the model was published with."""
        checkpoint = find_checkpoint(
            options.checkpoint or default,
            kinds=kinds,
            stands_for=stands_for,
            model=model,
            offline=options.offline,
        )
        return cls(checkpoint, options, device=device, renamed=renamed, signs=signs)

    def wear(self, adapters: Mapping[str, str], *, offline: bool) -> None:
        """Put adapters beside the weights, to be chosen between by ``under``.

        Args:
            adapters: Name → folder or hub id.
            offline: Whether the hub is never asked.

        Raises:
            ConfigError: One changes the vision tower, whose features all of them share.
        """
        for name, adapter in adapters.items():
            add_adapter(self.model, adapter, name=name, offline=offline, sees=False)
            self._worn[name] = Prefixes()
        self.model.eval()

    def asking(self) -> contextlib.AbstractContextManager[None]:
        """Hold the questions of one batch: nothing to do."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def under(self, adapter: str) -> Iterator[None]:
        """Read with one of the adapters that are worn; with plain weights where there are none."""
        if adapter not in self._worn:
            yield
            return
        plain, self.prefixes = self.prefixes, self._worn[adapter]
        self.model.set_adapter(adapter)
        try:
            yield
        finally:
            self.prefixes = plain

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self.model.parameters())

    @property
    def memory_mb(self) -> float:
        """Resident size of the weights, MiB."""
        return float(self.model.get_memory_footprint()) / 2**20

    def see(self, images: Sequence[Image]) -> list[Seen]:
        """Return what the vision tower makes of images, ``(H, W, 3) uint8 RGB``."""

        def some(part: Sequence[Image]) -> list[Seen]:
            return see(self.model, self.processor, part, family=self.family)

        return self._by_parts(images, some, most=PICTURES)

    def read(self, passages: Sequence[Passage]) -> list[Tensor]:
        """Return the last hidden states of the marked tokens, ``(marks, width)`` per passage."""

        def some(part: Sequence[Passage]) -> list[Tensor]:
            asks = [Ask(passage=one, places=self._places(one)) for one in part]
            with torch.inference_mode():
                return [states for states, _ in self._read(asks)]

        return self._by_parts(passages, some, most=self.batch)

    def weigh(
        self, passages: Sequence[Passage], tails: Sequence[Sequence[Tail]]
    ) -> list[NDArray[np.float64]]:
        """Return the log-probability of each continuation of each passage, ``(tails,)`` each.

        Every continuation is read in the same pass as its passage; nothing is generated.
        """

        def some(part: Sequence[tuple[Passage, Sequence[Tail]]]) -> list[NDArray[np.float64]]:
            asks = [Ask(passage=one, places=self._places(one), tails=t) for one, t in part]
            with torch.inference_mode():
                return [chances for _, chances in self._read(asks)]

        return self._by_parts(list(zip(passages, tails, strict=True)), some, most=self.batch)

    def head(self, states: Tensor) -> Tensor:
        """Return log-probabilities of the next token, ``(n, vocabulary) float32``."""
        logits = self.model.get_output_embeddings()(states)
        return torch.log_softmax(logits.float(), dim=-1)

    def generate(self, passages: Sequence[Passage], *, tokens: int) -> list[str]:
        """Let the model answer in text, the likeliest token each time.

        Args:
            passages: Prompts.
            tokens: Length of an answer at most.
        """

        def some(part: Sequence[Passage]) -> list[str]:
            return self._generate(part, tokens=tokens)

        return self._by_parts(passages, some, most=self.batch)

    def close(self) -> None:
        """Let the weights go."""
        self.model = None
        self._make_room()

    def _by_parts(
        self, items: Sequence[Any], run: Callable[[Sequence[Any]], list[Answer]], *, most: int
    ) -> list[Answer]:
        """Run part after part; where memory ends the parts are halved, from then on."""
        done: list[Answer] = []
        size = most
        while len(done) < len(items):
            part = items[len(done) : len(done) + size]
            try:
                done += run(part)
            except RuntimeError as error:  # torch.OutOfMemoryError among them
                if not _is_memory(error):
                    raise
                self._make_room()
                if len(part) == 1:
                    raise OutOfMemoryError(
                        f"{self.checkpoint.name}: no memory for one query; take fewer frames "
                        "(clip=), smaller ones (pixels=) or a smaller checkpoint"
                    ) from error
                size = len(part) // 2
                self.batch = min(self.batch, size)
                logger.warning("out of memory with %d queries; %d from now", len(part), size)
        return done

    def _make_room(self) -> None:
        for kept in (self.prefixes, *self._worn.values()):
            kept.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _places(self, passage: Passage) -> Places:
        """Positions of a passage read alone, as the model itself counts them."""
        places = self._unbroken(passage)
        for index, count in passage.skips.items():
            places[:, index:] += count
        return places

    def _unbroken(self, passage: Passage) -> Places:
        tokens = len(passage)
        if not hasattr(self.model.model, "get_rope_index"):
            return np.arange(tokens)[None]
        kinds = torch.zeros((1, tokens), dtype=torch.int32)
        for start, picture in passage.pictures.items():
            kinds[0, start : start + picture.seen.tokens.shape[0]] = 1
        grids = [picture.seen.grid for picture in passage.pictures.values()]
        found, _ = self.model.model.get_rope_index(
            torch.tensor([passage.tokens]),
            mm_token_type_ids=kinds,
            image_grid_thw=torch.tensor(grids) if grids else None,
        )
        places: Places = found[:, 0].numpy()
        return places

    def _read(self, asks: Sequence[Ask]) -> list[tuple[Tensor, NDArray[np.float64]]]:
        """Return hidden states of the marked tokens, and log-probabilities of the tails."""
        found = [self.prefixes.find(ask.symbols) if self.reuse else (None, 0) for ask in asks]
        known = [count for _, count in found]
        rows = pack(asks, known=known, reuse=self.reuse, exchange=self.exchange)
        states, cache = self._forward(rows, [found[row.paths[0].ask][0] for row in rows])
        marked: dict[int, Tensor] = {}
        chances = [np.zeros(len(ask.tails)) for ask in asks]
        for index, row in enumerate(rows):
            for path in row.paths:
                ask = asks[path.ask]
                tails = [ask.tails[which] for which in path.which]
                said = self._chances(states[index], row, path.nodes[-1], path.tails, tails)
                chances[path.ask][path.which] = said
                nodes = [path.nodes[mark] - row.known for mark in ask.passage.wanted]
                marked[path.ask] = states[index][nodes]
            if self.reuse:
                self._keep(row, cache, index, longest=max(one.known for one in rows))
        return [(marked[index], chances[index]) for index in range(len(asks))]

    def _chances(
        self,
        states: Tensor,
        row: Row,
        last: int,
        nodes: Sequence[Sequence[int]],
        tails: Sequence[Tail],
    ) -> list[float]:
        """Return the log-probability of each tail behind the node ``last``."""
        steps = [
            (parent, token)
            for path, tail in zip(nodes, tails, strict=True)
            for parent, token in zip([last, *path], tail, strict=True)
        ]
        wanted = sorted({parent for parent, _ in steps})
        place = {node: index for index, node in enumerate(wanted)}
        asked: dict[int, list[int]] = {}
        for parent, token in steps:
            asked.setdefault(place[parent], []).append(token)
        chance: dict[tuple[int, int], float] = {}
        for start in range(0, len(wanted), LOGITS):
            part = wanted[start : start + LOGITS]
            made = self.head(states[[node - row.known for node in part]])
            for offset in range(len(part)):
                tokens = sorted(set(asked[start + offset]))
                values = made[offset, tokens].tolist()
                chance.update(
                    ((start + offset, token), value)
                    for token, value in zip(tokens, values, strict=True)
                )
        sums, step = [], iter(steps)
        for tail in tails:
            ways = [next(step) for _ in tail]
            sums.append(sum(chance[place[parent], token] for parent, token in ways))
        return sums

    def _forward(
        self, rows: Sequence[Row], prefixes: Sequence[Prefix | None]
    ) -> tuple[Tensor, Any]:
        """Read the new nodes of rows: hidden states ``(rows, new, width)``, and the cache."""
        transformers = _transformers()
        device, kind = self.model.device, self.model.dtype
        news = [len(row) - row.known for row in rows]
        new, known = max(news), max(row.known for row in rows)
        self.read_tokens += sum(news)
        tokens = torch.zeros((len(rows), new), dtype=torch.long)
        places = torch.zeros((len(rows[0].places[0]), len(rows), new), dtype=torch.long)
        reads = torch.zeros((len(rows), 1, new, known + new), dtype=torch.bool)
        for index, (row, count) in enumerate(zip(rows, news, strict=True)):
            tokens[index, :count] = torch.tensor(row.tokens[row.known :])
            places[:, index, :count] = torch.from_numpy(np.stack(row.places[row.known :], axis=1))
            mask = torch.from_numpy(row.mask())
            reads[index, 0, :count, : row.known] = mask[:, : row.known]
            reads[index, 0, :count, known : known + count] = mask[:, row.known :]
        if self.reuse or any(row.bunches for row in rows):
            # Not -inf: a padded node reads nothing, and its softmax must not be NaN.
            mask = torch.full(reads.shape, torch.finfo(kind).min, dtype=kind)
            mask = mask.masked_fill(reads, 0.0)
        else:
            mask = (torch.arange(new) < torch.tensor(news)[:, None]).long()
        cache = transformers.DynamicCache()
        if known:
            _fill(cache, rows, prefixes, known=known)
        shown = [row.pictures[node] for row in rows for node in sorted(row.pictures)]
        with self._standing_in(shown):
            out = self.model.model(
                input_ids=tokens.to(device),
                attention_mask=mask.to(device),
                position_ids=(places if len(places) > 1 else places[0]).to(device),
                past_key_values=cache,
                use_cache=True,
                **self._pictures(shown),
            )
        return out.last_hidden_state, cache

    def _keep(self, row: Row, cache: Any, index: int, *, longest: int) -> None:
        """Keep keys and values of the last passage of a row."""
        nodes = np.asarray(row.paths[-1].nodes)
        columns = torch.from_numpy(np.where(nodes < row.known, nodes, nodes - row.known + longest))
        symbols = np.asarray([row.symbols[node] for node in nodes], np.int64)
        layers = []
        for layer in cache.layers:
            take = columns.to(layer.keys.device)
            layers.append((layer.keys[index][:, take], layer.values[index][:, take]))
        self.prefixes.keep(Prefix(symbols=symbols, layers=layers))

    def _pictures(self, shown: Sequence[Picture]) -> dict[str, Any]:
        """Inputs that make the model look for features; the pixels are never looked at."""
        if not shown:
            return {}
        inputs = {"pixel_values": torch.zeros(1, device=self.model.device)}
        if shown[0].seen.grid is not None:
            grids = torch.tensor([picture.seen.grid for picture in shown])
            inputs["image_grid_thw"] = grids.to(self.model.device)
        return inputs

    @contextlib.contextmanager
    def _standing_in(self, shown: Sequence[Picture]) -> Iterator[None]:
        """Give the model known features where it asks its vision tower.

        The model puts them where they belong, and into its first layers where it does so.
        """
        seen = [picture.seen for picture in shown]
        depth = len(seen[0].deep) if seen else 0
        tokens = [one.tokens for one in seen]
        even = len({one.shape for one in tokens}) == 1 and not depth and seen[0].grid is None
        known = SimpleNamespace(
            pooler_output=torch.stack(tokens) if even else tokens,
            deepstack_features=[[one.deep[layer] for one in seen] for layer in range(depth)],
        )

        # ``generate`` reads the names of the parameters: what is passed for them is done with.
        def features(pixel_values: Any = None, image_grid_thw: Any = None, **_: Any) -> Any:
            return known

        inner = self.model.model
        inner.get_image_features = features
        try:
            yield
        finally:
            del inner.get_image_features

    def _generate(self, passages: Sequence[Passage], *, tokens: int) -> list[str]:
        transformers = _transformers()
        device = self.model.device
        longest = max(map(len, passages))
        shape = (len(passages), longest)
        ids = torch.full(shape, self.writer.end, dtype=torch.long)
        there = torch.zeros(shape, dtype=torch.long)
        kinds = torch.zeros(shape, dtype=torch.int32)
        for row, passage in enumerate(passages):
            start = longest - len(passage)
            ids[row, start:] = torch.tensor(passage.tokens)
            there[row, start:] = 1
            for first, picture in passage.pictures.items():
                count = picture.seen.tokens.shape[0]
                kinds[row, start + first : start + first + count] = 1
        shown = [picture for passage in passages for picture in passage.pictures.values()]
        inputs = self._pictures(shown)
        if hasattr(self.model.model, "get_rope_index"):
            inputs["mm_token_type_ids"] = kinds.to(device)
        stop = self.model.generation_config.eos_token_id
        settings = transformers.GenerationConfig(
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=self.writer.end if stop is None else stop,
            pad_token_id=self.writer.end,
        )
        with self._standing_in(shown), torch.inference_mode():
            made = self.model.generate(
                input_ids=ids.to(device),
                attention_mask=there.to(device),
                generation_config=settings,
                **inputs,
            )
        return [self.writer.text(row) for row in made[:, longest:].tolist()]


def _fill(
    cache: Any, rows: Sequence[Row], prefixes: Sequence[Prefix | None], *, known: int
) -> None:
    """Put what is known of each row into an empty cache, padded behind to ``known`` tokens."""
    full = next(prefix for prefix in prefixes if prefix is not None)
    for layer, (keys, values) in enumerate(full.layers):
        shape = (len(rows), keys.shape[0], known, keys.shape[2])
        past = keys.new_zeros(shape), values.new_zeros((*shape[:3], values.shape[2]))
        for index, (row, prefix) in enumerate(zip(rows, prefixes, strict=True)):
            if prefix is None:
                continue
            for target, source in zip(past, prefix.layers[layer], strict=True):
                target[index, :, : row.known] = source[:, : row.known]
        cache.update(*past, layer)


def _is_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def _transformers() -> Any:
    import transformers

    return transformers
