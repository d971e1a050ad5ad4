"""A server of the chat-completions contract in this process, and a tiny model behind it."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robo_reward.protocol.png import decode_png

from .http_peer import listening

Step = Mapping[str, float]
"""Text of a token → its probability; the likeliest one is said."""
Answer = Callable[[dict[str, Any]], tuple[int, dict[str, str], Any]]
"""Body → code, headers, and what is answered: bytes as they are, all else as JSON."""


@dataclass
class Seen:
    """What a server was asked."""

    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    running: int = 0
    most: int = 0

    @property
    def asked(self) -> list[dict[str, Any]]:
        """Without the probe of loading."""
        return [body for body in self.bodies if not is_probe(body)]


def is_probe(body: dict[str, Any]) -> bool:
    """Whether this is what is asked of a server when a model is loaded."""
    return "is the sky blue" in json.dumps(body["messages"])


def completion(
    steps: Sequence[Step], *, finish: str = "stop", log: bool = True, top: int = 20, **more: Any
) -> dict[str, Any]:
    """Answer the likeliest token of each step."""
    content: list[dict[str, Any]] = []
    for step in steps:
        ranked = sorted(step.items(), key=lambda one: -one[1])
        tops: list[dict[str, Any]] = [
            {"token": text, "logprob": math.log(chance)} for text, chance in ranked[:top]
        ]
        content.append({**tops[0], "top_logprobs": tops})
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(c["token"] for c in content)},
        "logprobs": {"content": content} if log else None,
        "finish_reason": finish,
    }
    usage = {"prompt_tokens": 100, "completion_tokens": len(content)}
    return {"object": "chat.completion", "choices": [choice], "usage": usage, **more}


def said(*texts: str) -> dict[str, Any]:
    """Answer texts without log-probabilities, one choice each."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": t}, "finish_reason": "stop"}
        for i, t in enumerate(texts)
    ]
    return {"choices": choices, "usage": {"prompt_tokens": 100, "completion_tokens": len(texts)}}


@contextlib.contextmanager
def serving(answer: Answer, *, models: Sequence[str] = ("tiny",)) -> Iterator[tuple[str, Seen]]:
    """Run a server; gives its address and what it is asked."""
    seen = Seen()
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(200, {}, {"object": "list", "data": [{"id": name} for name in models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                seen.bodies.append(body)
                seen.headers.append(dict(self.headers))
                seen.times_s.append(time.monotonic())
                seen.running += 1
                seen.most = max(seen.most, seen.running)
            try:
                if self.path != "/v1/chat/completions":
                    self._reply(404, {}, {"error": {"message": f"no {self.path}"}})
                else:
                    self._reply(*answer(body))
            finally:
                with lock:
                    seen.running -= 1

        def _reply(self, code: int, headers: dict[str, str], made: Any) -> None:
            data = made if isinstance(made, bytes) else json.dumps(made).encode()
            with contextlib.suppress(OSError):  # who asked may have gone away
                self.send_response(code)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Handler) as port:
        yield f"http://127.0.0.1:{port}/v1", seen


def tiny_model(folder: Path) -> Answer:
    """Serve a checkpoint as vLLM does: greedy, going on from a beginning, log-probabilities."""
    import torch

    from robo_reward.models.vlm.backbone import Backbone
    from robo_reward.models.vlm.checkpoint import find_checkpoint
    from robo_reward.models.vlm.families import FAMILIES
    from robo_reward.models.vlm.options import VlmOptions
    from robo_reward.models.vlm.passage import Picture

    checkpoint = find_checkpoint(str(folder), kinds=tuple(FAMILIES), model="server", offline=True)
    backbone = Backbone(checkpoint, VlmOptions(reuse=False), device="cpu")
    lock = threading.Lock()

    def part(held: Any) -> Any:
        if held["type"] == "text":
            return held["text"]
        head, _, data = held["image_url"]["url"].partition(",")
        assert head == "data:image/png;base64"
        (features,) = backbone.see([decode_png(base64.b64decode(data))])
        return Picture(key=data[-32:], seen=features)

    def step(passage: Any, count: int) -> tuple[dict[str, Any], int]:
        with torch.inference_mode():
            chances = backbone.head(backbone.read([passage])[0])[0]
        values, tokens = chances.topk(min(count, len(chances)))
        tops = [
            {"token": backbone.writer.tokenizer.decode([token]), "logprob": value}
            for token, value in zip(tokens.tolist(), values.tolist(), strict=True)
        ]
        return {**tops[0], "top_logprobs": tops}, int(tokens[0])

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        messages = list(body["messages"])
        begun = messages.pop()["content"] if body.get("continue_final_message") else ""
        with lock:
            turns = []
            for one in messages:
                held = one["content"]
                turns.append(
                    (one["role"], [held] if isinstance(held, str) else list(map(part, held)))
                )
            passage = backbone.writer.write(turns)
            passage.write(backbone.writer.tokens(begun))
            content = []
            finish = "length"
            for _ in range(body["max_tokens"]):
                told, token = step(passage, body["top_logprobs"])
                if token == backbone.writer.end:
                    finish = "stop"
                    break
                content.append(told)
                passage.write([token])
        text = "".join(one["token"] for one in content)
        choice = {
            "message": {"role": "assistant", "content": text},
            "logprobs": {"content": content},
            "finish_reason": finish,
        }
        usage = {"prompt_tokens": len(passage), "completion_tokens": len(content)}
        return 200, {}, {"choices": [choice], "usage": usage}

    return answer
