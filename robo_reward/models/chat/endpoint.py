"""A server in the place of a backbone: pictures become data URLs, a passage becomes a request."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from robo_reward.errors import ConfigError, ModelError, require
from robo_reward.frames import Image
from robo_reward.models.vlm.options import VlmOptions
from robo_reward.models.vlm.readings import Unanswered, Vector
from robo_reward.protocol.png import encode_png

from .options import EndpointOptions
from .reading import Form, Found, Reply, behind, frequencies, told
from .server import ChatServer
from .spending import Purse, Spent
from .transcript import Chat, ChatWriter, Tail

PROBE_S = 30.0
MOST_STEPS = 64
"""Requests for one question whose answers begin alike."""

Item = TypeVar("Item")
Made = TypeVar("Made")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What stands for a checkpoint.

    Attributes:
        name: Of the model at the server.
        folder: Its address.
        version: Hash of the name and of how answers are read; weights cannot be seen from here.
    """

    name: str
    folder: str
    version: str


class Endpoint:
    """Asks a server what ``Backbone`` asks weights. One thread at a time may use it.

    Args:
        url: Address of the server.
        options: Of the model.
        own: Of the endpoint.

    Raises:
        ConfigError: The server cannot be asked this way.
        AccessDenied: The server does not take the key.
        PeerUnreachable: Nobody answers.
    """

    parameters = 0
    memory_mb = 0.0

    def __init__(self, url: str, options: VlmOptions, own: EndpointOptions) -> None:
        self.own = own
        self._options = options
        self._purse = Purse(own)
        self._server = ChatServer(url, own, purse=self._purse)
        self._server.probe(end_s=time.monotonic() + PROBE_S)
        self.served = self._server.served
        self.writer = ChatWriter(self.served)
        said = json.dumps(own.identity | {"served": self.served}, sort_keys=True)
        self.checkpoint = Served(
            name=self.served,
            folder=self._server.name,
            version=hashlib.sha256(said.encode()).hexdigest(),
        )
        self._answers: OrderedDict[str, Vector] = OrderedDict()
        self._failed: dict[str, Unanswered] = {}
        self._end_s = math.inf
        self._use = ""
        self._lock = threading.Lock()

    @property
    def continues(self) -> bool:
        """Whether the model goes on from words that are put into its mouth."""
        return self.own.prefill

    @property
    def spent(self) -> Spent:
        """What asking has cost so far."""
        return self._purse.spent

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Hold the questions of one batch: they share a time-out, and none fails twice."""
        self._end_s = time.monotonic() + self.own.batch_timeout
        self._failed.clear()
        try:
            yield
        finally:
            self._end_s = math.inf

    def wear(self, adapters: Mapping[str, str], *, offline: bool) -> None:
        """Refuse: adapters lie where the weights are.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            f"the server loads adapters ({', '.join(adapters)}); name what it calls them with "
            "served=, {use} in it"
        )

    @contextlib.contextmanager
    def under(self, adapter: str) -> Iterator[None]:
        """Ask the model that serves this adapter, where the name of the model holds ``{use}``."""
        self._use = adapter
        try:
            yield
        finally:
            self._use = ""

    def see(self, images: Sequence[Image]) -> list[str]:
        """Return images, ``(H, W, 3) uint8 RGB``, as data URLs: the protocol has no other form."""
        return [self._data_url(image) for image in images]

    def weigh(self, passages: Sequence[Chat], tails: Sequence[Sequence[Tail]]) -> list[Vector]:
        """Return the log-probability of each answer, ``(tails,)`` per passage.

        Raises:
            Unanswered: A question has no answer; those of the others are kept.
        """
        asks = list(zip(passages, tails, strict=True))
        keys = [self._key(chat, some) for chat, some in asks]
        fresh = {key: ask for key, ask in zip(keys, asks, strict=True) if not self._knows(key)}
        self._purse.count(remembered=len(keys) - len(fresh))
        for key, made in zip(fresh, self._each(list(fresh.values()), self._weigh), strict=True):
            if isinstance(made, Unanswered):
                self._failed[key] = made
            else:
                self._answers[key] = made
        self._purse.count(failures=sum(key in self._failed for key in fresh))
        for key in keys:
            if key in self._failed:
                raise self._failed[key]
        found = [self._answers[key] for key in keys]
        while len(self._answers) > self.own.answers_kept:
            self._answers.popitem(last=False)
        return found

    def generate(self, passages: Sequence[Chat], *, tokens: int) -> list[str]:
        """Let the model write.

        Raises:
            Unanswered: One passage got nothing.
        """

        def write(chat: Chat) -> str:
            return self._server.write(
                chat, said=chat.begun, served=self._name, tokens=tokens, end_s=self._end_s
            )

        texts = []
        for made in self._each(passages, write):
            if isinstance(made, Unanswered):
                raise made
            texts.append(made)
        return texts

    def close(self) -> None:
        """Say what was spent."""
        logger.info("%s: %s", self.served, self.spent)

    @property
    def _name(self) -> str:
        return self.served.replace("{use}", self._use)

    def _knows(self, key: str) -> bool:
        if key in self._answers:
            self._answers.move_to_end(key)
        return key in self._answers or key in self._failed

    def _key(self, chat: Chat, tails: Sequence[Tail]) -> str:
        asked = json.dumps([self._name, chat.key, tails])
        return hashlib.sha256(asked.encode()).hexdigest()

    def _each(self, items: Sequence[Item], run: Callable[[Item], Made]) -> list[Made | Unanswered]:
        """Ask at once what may be asked at once; wait for all."""

        def tried(item: Item) -> Made | Unanswered:
            try:
                return run(item)
            except Unanswered as error:
                return error

        if len(items) <= 1:
            return [tried(item) for item in items]
        with ThreadPoolExecutor(min(self.own.concurrency, len(items))) as pool:
            return list(pool.map(tried, items))

    def _weigh(self, ask: tuple[Chat, Sequence[Tail]]) -> Vector:
        chat, tails = ask
        opening, answers = tails[0][0], tuple(answer for _, answer, _ in tails)
        if not self.continues and chat.said:
            raise ModelError("a question that begins the answer needs prefill=true")
        begun = chat.begun + opening
        if self.own.sample:
            return self._draw(chat, begun, answers)
        return (
            self._continue(chat, begun, answers)
            if self.continues
            else self._read(chat, begun, answers)
        )

    def _read(self, chat: Chat, opening: str, answers: tuple[str, ...]) -> Vector:
        """Read an answer that is all the model's own."""
        form = Form(answers=answers, exact=False)
        (reply,) = self._ask(chat, "", self._own_length)
        self._check(reply)
        places, _ = behind(reply, opening, form)
        found = Found(form)
        found.walk(places, ended=reply.finished, path="", chance=0.0)
        while (group := found.next_group()) is not None:
            fits = form.fits(group[0])
            if len(fits) < len(answers):  # else a blank, which says nothing
                names = told([answers[index] for index in fits])
                raise Unanswered(
                    f"the server does not tell {names} apart; add prefill=true where it can go on "
                    "from a beginning (vLLM, SGLang), or sample=N"
                )
        return found.settle(floor=self.own.floor)

    def _continue(self, chat: Chat, begun: str, answers: tuple[str, ...]) -> Vector:
        """Read what follows a beginning; answers that begin alike are asked further."""
        said = begun.rstrip()  # a blank at the end belongs to the token that follows
        pad = begun[len(said) :] if said else ""
        form = Form(answers=tuple(pad + answer for answer in answers), exact=True)
        found = Found(form)
        group: tuple[str, float] | None = ("", 0.0)
        for _ in range(MOST_STEPS):
            if group is None:
                break
            path, chance = group
            (reply,) = self._ask(chat, said + path, _longest(form, path))
            self._check(reply)
            found.walk(reply.places or (), ended=reply.finished, path=path, chance=chance)
            group = found.next_group()
        return found.settle(floor=self.own.floor)

    def _draw(self, chat: Chat, begun: str, answers: tuple[str, ...]) -> Vector:
        """Draw answers and count them."""
        form = Form(answers=answers, exact=False)
        said = begun.rstrip() if self.continues else ""
        replies = self._ask(chat, said, self._own_length, draws=self.own.sample)
        texts = []
        for reply in replies:
            with contextlib.suppress(Unanswered):
                texts.append(reply.text if said else behind(reply, begun, form)[1])
                continue
            texts.append(reply.text)
        return frequencies(texts, form, floor=self.own.floor)

    def _ask(self, chat: Chat, said: str, tokens: int, *, draws: int = 0) -> list[Reply]:
        return self._server.ask(
            chat, said=said, served=self._name, tokens=tokens, end_s=self._end_s, draws=draws
        )

    @property
    def _own_length(self) -> int:
        return self.own.tokens + self._options.think

    def _check(self, reply: Reply) -> None:
        if not reply.places:
            raise Unanswered("the server gave no log-probabilities with this answer; see sample=N")

    def _data_url(self, image: Image) -> str:
        shown = _limited(image, self._options.pixels)
        if self.own.image == "png":
            data = encode_png(shown)
        else:
            import simplejpeg

            pixels = np.ascontiguousarray(shown)
            data = simplejpeg.encode_jpeg(pixels, quality=self.own.quality, colorsubsampling="444")
        return f"data:image/{self.own.image};base64,{base64.b64encode(data).decode()}"


def _longest(form: Form, path: str) -> int:
    """Tokens that spell the rest of any answer, and one that ends it where another goes on."""
    rest = [answer[len(path) :] for answer in form.answers if answer.startswith(path)]
    more = any(
        other != answer and other.startswith(answer) for answer in rest for other in rest if answer
    )
    return max(map(len, rest)) + more


def _limited(image: Image, pixels: int) -> Image:
    """Make an image smaller than so many pixels, its proportions kept; 0 leaves it."""
    height, width = image.shape[:2]
    if not pixels or height * width <= pixels:
        return image
    pil = require("PIL.Image", extra="vlm")
    scale = math.sqrt(pixels / (height * width))
    size = max(1, int(width * scale)), max(1, int(height * scale))
    made: Image = np.asarray(pil.fromarray(image).resize(size, pil.Resampling.BOX))
    return made
