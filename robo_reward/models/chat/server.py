"""Speaks the chat-completions contract of OpenAI, which vLLM, SGLang and hosted models share."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from robo_reward.errors import (
    AccessDenied,
    ConfigError,
    PeerUnreachable,
    did_you_mean,
)
from robo_reward.models.vlm.readings import Unanswered
from robo_reward.models.web import Patience, Refused, Service, bearer

from .options import EndpointOptions
from .reading import Place, Reply
from .spending import Purse
from .transcript import Chat

logger = logging.getLogger(__name__)


class _Top(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int] | None = None

    @property
    def text(self) -> str:
        if self.bytes is None:
            return self.token
        return bytes(byte & 255 for byte in self.bytes).decode(errors="replace")


class _Token(_Top, frozen=True):
    top_logprobs: list[_Top] = []


class _LogProbs(msgspec.Struct, frozen=True):
    content: list[_Token] | None = None


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message
    logprobs: _LogProbs | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    usage: _Usage | None = None
    system_fingerprint: str | None = None


class ChatServer:
    """One model of one server.

    Args:
        url: Address, ``/v1`` included where the server has it.
        options: How it is asked.
        purse: Counts.

    Raises:
        ConfigError: The address or the key makes no sense, or the model is not there.
        AccessDenied: The server does not take the key.
        PeerUnreachable: Nobody answers.
    """

    def __init__(self, url: str, options: EndpointOptions, *, purse: Purse) -> None:
        self.options = options
        self.purse = purse
        self._service = Service(
            url.rstrip("/"),
            token=bearer(variable=options.token_env, file=options.token_file),
            patience=Patience(tries=options.tries, first_s=options.pause),
            insecure_http=options.insecure_http,
        )
        self.name = self._service.name
        self.served = self._find()
        self._limit = "max_tokens"
        self._print = ""

    def ask(
        self, chat: Chat, *, said: str, served: str, tokens: int, end_s: float, draws: int = 0
    ) -> list[Reply]:
        """Ask one question.

        Args:
            chat: What is shown.
            said: How the answer begins; "" lets the model begin it.
            served: Name of the model.
            tokens: Length of an answer at most.
            end_s: When there must be an answer, on the monotonic clock.
            draws: Answers to draw by chance; 0: the likeliest one, with log-probabilities.

        Raises:
            Unanswered: There is no answer.
        """
        body: dict[str, Any] = {"model": served, "messages": chat.messages(said)}
        if said:
            # vLLM and SGLang go on from an unfinished last message; others refuse these words.
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if not draws:
            settings = {"temperature": 0.0, "logprobs": True, "top_logprobs": self.options.top}
            return self._replies(body | settings, chat, tokens, end_s)
        replies: list[Reply] = []
        while len(replies) < draws:
            # A server that gives fewer than it was asked for is asked again.
            seed = self.options.seed + len(replies)
            settings = {"temperature": self.options.temperature, "seed": seed}
            if draws - len(replies) > 1:
                settings["n"] = draws - len(replies)
            replies += self._replies(body | settings, chat, tokens, end_s)
        return replies[:draws]

    def write(self, chat: Chat, *, said: str, served: str, tokens: int, end_s: float) -> str:
        """Let the model write, the likeliest word each time.

        Raises:
            Unanswered: It did not.
        """
        body: dict[str, Any] = {"model": served, "messages": chat.messages(said)}
        if said:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return self._replies(body | {"temperature": 0.0}, chat, tokens, end_s)[0].text

    def probe(self, *, end_s: float) -> None:
        """Ask for one word, to learn early what would fail later.

        Raises:
            ConfigError: The server gives no log-probabilities, or refuses how it is asked.
            AccessDenied: The server does not take the key.
            PeerUnreachable: Nobody answers.
        """
        chat = Chat([("user", ["Answer yes or no: is the sky blue?"])])
        said = "Answer:" if self.options.prefill else ""
        served = self.served.replace("{use}", "progress")
        try:
            (reply, *_) = self.ask(
                chat, said=said, served=served, tokens=1, end_s=end_s, draws=self.options.sample
            )
        except Unanswered as error:
            if isinstance(error.__cause__, Refused):
                raise self._final(error.__cause__) from error
            raise PeerUnreachable(str(error)) from error
        if not self.options.sample and not reply.places:
            raise ConfigError(
                f"{self.name} gives no log-probabilities; add sample=N, which draws N answers and "
                "takes their shares"
            )

    def _find(self) -> str:
        """Return the name of the model, the only one of the server where none was given."""
        wanted = self.options.served
        try:
            held = msgspec.json.decode(
                self._service.ask(path="/models", timeout_s=self.options.timeout)
            )
            names = [str(one["id"]) for one in held["data"]]
        except Refused as error:
            if not wanted or error.code in (401, 403):
                raise self._final(error) from error
            return wanted  # not every server lists its models
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            if wanted:
                return wanted
            raise ConfigError(f"{self.name} does not list its models; add served=NAME") from error
        if wanted:
            if wanted not in names and "{use}" not in wanted:
                hint = did_you_mean(wanted, names)
                logger.warning("%s does not list %s; %s", self.name, wanted, hint)
            return wanted
        if len(names) != 1:
            raise ConfigError(
                f"{self.name} has {len(names)} models; add served=NAME, one of "
                + ", ".join(names[:20])
            )
        return names[0]

    def _final(self, error: Refused) -> Exception:
        if error.code in (401, 403):
            return AccessDenied(f"{error}; give its key with token_env= or token_file=")
        return ConfigError(f"{error}; the address ends in /v1 for most servers")

    def _replies(self, body: dict[str, Any], chat: Chat, tokens: int, end_s: float) -> list[Reply]:
        try:
            held = self._post(body, chat, tokens, end_s)
            return [_reply(choice) for choice in held.choices]
        except msgspec.DecodeError as error:
            raise Unanswered(f"{self.name} broke the contract: {error}") from error
        except (PeerUnreachable, Refused) as error:
            raise Unanswered(str(error)) from error

    def _post(self, body: dict[str, Any], chat: Chat, tokens: int, end_s: float) -> _Completion:
        limit = self._limit
        try:
            raw = self._service.ask(
                msgspec.json.encode(body | {limit: tokens}),
                path="/chat/completions",
                timeout_s=self.options.timeout,
                end_s=end_s,
                begun=lambda tried: self.purse.pay(tried, images=chat.images),
            )
        except Refused as error:
            # The newer name, which some hosted models insist on and older servers do not know.
            if error.code != 400 or "max_completion_tokens" not in str(error):
                raise
            if limit == "max_completion_tokens":
                raise
            self._limit = "max_completion_tokens"
            return self._post(body, chat, tokens, end_s)
        held = msgspec.json.decode(raw, type=_Completion)
        if held.usage is not None:
            self.purse.use(prompt=held.usage.prompt_tokens, completion=held.usage.completion_tokens)
        self._look_at(held.system_fingerprint or "")
        if not held.choices:
            raise Unanswered(f"{self.name} gave no answer: choices is empty")
        return held

    def _look_at(self, fingerprint: str) -> None:
        if fingerprint and self._print and fingerprint != self._print:
            logger.warning(
                "%s changed from %s to %s under the same name: scores from here on may differ",
                *(self.name, self._print, fingerprint),
            )
        self._print = fingerprint or self._print


def _reply(choice: _Choice) -> Reply:
    text = choice.message.content or ""
    if choice.message.refusal:
        raise Unanswered(f"the model refuses to answer: {choice.message.refusal[:80]!r}")
    content = choice.logprobs.content if choice.logprobs is not None else None
    places = tuple(map(_place, content)) if content else None
    return Reply(text=text, places=places, finished=choice.finish_reason != "length")


def _place(token: _Token) -> Place:
    chances: dict[str, float] = {}
    told: Sequence[_Top] = token.top_logprobs
    seen = {(one.token, one.logprob) for one in told}
    if (token.token, token.logprob) not in seen and token.text not in {one.text for one in told}:
        told = [*told, token]
    for one in told:
        if not math.isfinite(one.logprob) or one.logprob > 1e-3:
            raise Unanswered(f"a log-probability is {one.logprob}")
        # Tokens of different numbers may have one text.
        before = chances.get(one.text, -math.inf)
        chances[one.text] = float(np.logaddexp(before, min(one.logprob, 0.0)))
    return Place(said=token.text, chances=chances)
