"""What somebody else's harness does, with the standard library and none of our code.

Written from the contract (field names and rules of ``robovalue-inference-v2``), so that a mistake
that our two ends share is found.
"""

from __future__ import annotations

import base64
import json
import struct
import urllib.error
import urllib.request
import uuid
import zlib
from typing import Any


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG of 8-bit RGB pixels, rows from the top."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)

    rows = [pixels[at : at + 3 * width] for at in range(0, len(pixels), 3 * width)]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row for row in rows), 1)
    end = chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + end


def text(file: bytes) -> str:
    return base64.b64encode(file).decode()


def item(op: str, instruction: str, *contexts: list[dict[str, str]], name: str = "") -> Any:
    return {
        "request_id": name or str(uuid.uuid4()),
        "op": op,
        "instruction": instruction,
        "contexts": [{"frames": frames} for frames in contexts],
    }


class Refused(Exception):
    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body

    @property
    def code(self) -> str:
        code: str = self.body["error"]["code"]
        return code


class Harness:
    """One model behind one URL."""

    def __init__(self, url: str, *, token: str = "", tls: Any = None) -> None:
        self.url = url
        self.headers = {"Content-Type": "application/json"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        handlers: list[Any] = [urllib.request.ProxyHandler({})]
        if tls is not None:
            handlers.append(urllib.request.HTTPSHandler(context=tls))
        self._opener = urllib.request.build_opener(*handlers)

    def send(self, body: bytes | None, **headers: str) -> Any:
        request = urllib.request.Request(self.url, data=body, headers={**self.headers, **headers})
        try:
            with self._opener.open(request, timeout=100.0) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, json.loads(error.read())) from None

    def describe(self) -> Any:
        return self.send(None)

    def envelope(self) -> dict[str, str]:
        said = self.describe()
        names = ("protocol", "model_id", "model_version", "preprocessing_version", "shot_mode")
        return {name: said[name] for name in names}

    def ask(self, items: list[Any], **changes: Any) -> list[float]:
        """Scores in the order of the items, after every check that the contract asks of us."""
        envelope = self.envelope()
        answer = self.send(json.dumps({**envelope, "items": items, **changes}).encode())
        assert set(answer) == {*envelope, "results"}
        assert {name: answer[name] for name in envelope} == envelope
        scores: dict[str, float] = {}
        for row in answer["results"]:
            assert set(row) == {"request_id", "op", "score"}
            assert type(row["score"]) in (int, float)
            assert row["request_id"] not in scores
            scores[row["request_id"]] = row["score"]
        assert {one["request_id"]: one["op"] for one in items} == {
            row["request_id"]: row["op"] for row in answer["results"]
        }
        return [scores[one["request_id"]] for one in items]


def value_order_correlation(values: list[float]) -> float:
    """Spearman of the values with their place; ties share their mean rank."""
    ordered = sorted(values)
    ranks = [ordered.index(v) + (ordered.count(v) - 1) / 2 for v in values]
    middle = (len(values) - 1) / 2
    both = sum((r - middle) * (t - middle) for t, r in enumerate(ranks))
    own = sum((r - middle) ** 2 for r in ranks) * sum((t - middle) ** 2 for t in range(len(ranks)))
    return both / own**0.5 if own else 0.0
