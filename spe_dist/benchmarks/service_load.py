"""Requests to a service at a given rate, whether it keeps up or not, and requests that no client should send.

The client is a few lines over sockets: it shares the processor with what it measures.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

_PATIENCE = 90.0  # seconds for an answer


@dataclass(frozen=True)
class Target:
    """Where a service listens.

    Args:
        host: host of the service.
        port: port of the service.
        token: that it asks for.
    """

    host: str
    port: int
    token: str

    def request(self, body: bytes, path: str = "/v1/extract", *, method: str = "POST") -> bytes:
        """A well-formed request of HTTP."""
        head = [
            f"{method} {path} HTTP/1.1", f"Host: {self.host}", f"Authorization: Bearer {self.token}",
            "Content-Type: application/json", f"Content-Length: {len(body)}",
        ]  # fmt: skip
        return "\r\n".join([*head, "", ""]).encode() + body


@dataclass(frozen=True)
class Answer:
    """What came back.

    Args:
        status: HTTP status; 0 if the connection broke or nothing came.
        body: body of the response.
        seconds: since the moment at which the request was due.
    """

    status: int
    body: bytes
    seconds: float


class Connections:
    """Connections to a service that are kept open between requests."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, request: bytes, due: float | None = None) -> Answer:
        """One request; never raises.

        Args:
            request: bytes of HTTP, well-formed or not.
            due: when it should have been sent, by `time.perf_counter`.
        """
        due = time.perf_counter() if due is None else due
        try:
            async with asyncio.timeout(_PATIENCE):
                status, body = await self._exchange(request)
        except (OSError, EOFError, ValueError, TimeoutError):
            status, body = 0, b""
        return Answer(status, body, time.perf_counter() - due)

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        free = self._free.pop() if self._free else None
        reader, writer = free or await asyncio.open_connection(self.target.host, self.target.port)
        keep = False
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            lengths = [line.partition(":")[2] for line in head.split("\r\n") if line.startswith("content-length:")]
            body = await reader.readexactly(int("".join(lengths)))  # a ValueError if there is none
            keep = "connection: close" not in head
            return int(head.split(" ", 2)[1]), body
        finally:
            if keep:
                self._free.append((reader, writer))
            else:
                writer.close()

    def close(self) -> None:
        """Close all of them."""
        for _, writer in self._free:
            writer.close()


async def at_a_rate(
    connections: Connections, requests: Sequence[bytes], rate: float, each: Callable[[int, Answer], None]
) -> None:
    """Send requests when they are due, however many are still unanswered.

    Args:
        connections: to the service.
        requests: in their order.
        rate: rate of requests in a second.
        each: called with number and answer of every request.
    """

    async def one(number: int, due: float) -> None:
        each(number, await connections.send(requests[number], due))

    began, tasks = time.perf_counter(), []
    for number in range(len(requests)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*tasks)


def requests_for(target: Target, texts: Sequence[str], count: int) -> list[bytes]:
    """Requests with one text each, in turn."""
    bodies = [target.request(json.dumps({"texts": [text]}).encode()) for text in texts]
    return [bodies[number % len(bodies)] for number in range(count)]


def is_same(found: Any, expected: Any, tolerance: float) -> bool:
    """Whether two results of a text are equal but for scores that differ by rounding."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and found.keys() == expected.keys() and all(
            is_same(found[key], expected[key], tolerance) for key in expected
        )  # fmt: skip
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(is_same, found, expected, [tolerance] * len(expected)))
    return abs(found - expected) <= tolerance if isinstance(expected, float) else found == expected


def bad_requests(target: Target, draw: random.Random) -> Iterator[tuple[bytes, frozenset[int]]]:
    """Requests that must be refused, each with the statuses that may be given; without an end."""
    good = json.dumps({"texts": ["Ann lives in Paris."]}).encode()
    wrong_token = Target(target.host, target.port, "x" * 43)
    while True:
        yield draw.choice(_KINDS)(target, wrong_token, good, draw)


def _broken_json(target: Target, _: Target, good: bytes, draw: random.Random) -> tuple[bytes, frozenset[int]]:
    return target.request(good[: draw.randrange(len(good))]), frozenset({400, 422})


def _random_bytes(target: Target, _: Target, good: bytes, draw: random.Random) -> tuple[bytes, frozenset[int]]:
    return target.request(b"\xff" + draw.randbytes(draw.randrange(2000))), frozenset({400})


def _wrong_types(target: Target, _: Target, good: bytes, draw: random.Random) -> tuple[bytes, frozenset[int]]:
    wrong: list[Any] = [
        {"texts": "x"}, {"texts": [1]}, {"texts": [None]}, {"texts": {}}, {"text": ["x"]}, {}, [], 3, "x", None,
        {"text": "x", "texts": ["x"]}, {"texts": ["x"], "min_entity_score": "0.5"}, {"text": "x", "nosuch": 1},
        {"texts": ["x"], "min_entity_score": float("nan")}, {"texts": ["x"], "min_relation_score": float("inf")},
        {"texts": ["x"], "min_entity_score": -1}, {"texts": ["x"], "min_entity_score": True}, {"text": "x", "model": 1},
    ]  # fmt: skip
    return target.request(json.dumps(draw.choice(wrong)).encode()), frozenset({422})


def _deep(target: Target, _: Target, good: bytes, draw: random.Random) -> tuple[bytes, frozenset[int]]:
    return target.request(b"[" * 100_000), frozenset({400})


def _too_much(target: Target, _: Target, good: bytes, draw: random.Random) -> tuple[bytes, frozenset[int]]:
    return draw.choice(_large_requests(target)), frozenset({413})


@cache
def _large_requests(target: Target) -> list[bytes]:
    """Made once, and not by `json`: while the client is at it, it sees no answer."""
    texts = [[b"x"] * 5000, [b"x" * 200_000], [b"x" * 20_000_000]]
    return [target.request(b'{"texts": ["' + b'", "'.join(of_one) + b'"]}') for of_one in texts]


def _wrong_token(_: Target, wrong: Target, good: bytes, draw: random.Random) -> tuple[bytes, frozenset[int]]:
    return wrong.request(good), frozenset({401})


def _wrong_path(target: Target, _: Target, good: bytes, draw: random.Random) -> tuple[bytes, frozenset[int]]:
    path = draw.choice(["/", "/v1", "/v1/models/nobody/extract", "/-/routes", "/../etc/passwd", "/v1/extract/"])
    return target.request(good, path), frozenset({404, 405})


def _wrong_method(target: Target, _: Target, good: bytes, draw: random.Random) -> tuple[bytes, frozenset[int]]:
    return target.request(b"", method=draw.choice(["GET", "PUT", "DELETE"])), frozenset({405})


def _unknown_model(target: Target, _: Target, good: bytes, draw: random.Random) -> tuple[bytes, frozenset[int]]:
    body = json.dumps({"texts": ["x"], "model": draw.choice(["nobody", "\ud800", "../x", ""])}).encode()
    return target.request(body), frozenset({404})


_KINDS = (
    _broken_json, _random_bytes, _wrong_types, _deep, _too_much, _wrong_token, _wrong_path, _wrong_method,
    _unknown_model,
)  # fmt: skip
