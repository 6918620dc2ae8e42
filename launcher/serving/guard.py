"""What every request passes before the application sees it: is there room, is it allowed, is it small enough.

A body is read here, up to the limit, so a refused one fills no memory. Whatever goes wrong is one line of JSON.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from launcher.serving.refusal import Refused
from launcher.serving.settings import ServiceSettings
from launcher.serving.token import is_authorised

LOGGER = logging.getLogger("ray.serve")

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})  # for anybody: they tell nothing of texts
_DRAINED_BYTES, _DRAINED_SECONDS = 64 << 20, 2.0  # of a body that is refused: a client that still sends reads no answer
FAILED = Refused(500, "the service failed to answer this request; its log says more")
Observe = Callable[[str, int, float], None]


@dataclass
class Load:
    """How many requests have been admitted and not yet answered."""

    requests: int = 0


class Guard:
    """An ASGI application around another.

    Args:
        app: to be guarded.
        settings: settings of the service.
        load: is kept up to date.
        observe: called with route, status and seconds of each request.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings, load: Load, observe: Observe) -> None:
        self._app, self._settings, self._load, self._observe = app, settings, load, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says it; never raises."""
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        began, answer = time.monotonic(), _Answer(send)
        try:
            await self._answer(scope, receive, answer)
        except Refused as refused:
            await answer.refuse(refused)
        except Exception as error:
            LOGGER.error("request failed: %s", type(error).__name__)  # what it says may hold a client's text
            await answer.refuse(FAILED)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._observe(route, answer.status, time.monotonic() - began)

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            self._admit(scope["path"], headers)
        except Refused:
            await _drain(receive)
            raise
        if scope["path"] in OPEN_PATHS:  # nobody holds places without a token
            await self._app(scope, _Replayed(b"", receive), answer)
            return
        self._load.requests += 1
        try:
            await self._app(scope, _Replayed(await self._read(receive), receive), answer)
        finally:
            self._load.requests -= 1

    def _admit(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        limits = self._settings.limits
        if path in OPEN_PATHS:
            return
        if self._settings.stopping.exists():
            raise Refused(503, "the service is ending: try again when it is back", retry_after=5)
        if self._settings.token_sha256 and not is_authorised(
            headers.get(b"authorization", b""), self._settings.token_sha256
        ):
            raise Refused(401, "the token is missing or wrong: send the header Authorization: Bearer TOKEN")
        if self._load.requests >= limits.requests:
            raise Refused(503, f"{limits.requests:,} requests are being answered: try again", retry_after=1)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > limits.body_bytes:
            raise self._too_large()

    async def _read(self, receive: Receive) -> bytes:
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._settings.limits.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the client left before its request was complete")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._settings.limits.body_bytes:
                        parts.clear()
                        await _drain(receive)
                        raise self._too_large()
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError as error:
            seconds = f"{self._settings.limits.seconds:g}"
            raise Refused(408, f"the request did not come within {seconds} s: send it again") from error

    def _too_large(self) -> Refused:
        limit = self._settings.limits.body_bytes
        return Refused(413, f"the request is larger than {limit:,} bytes: send fewer texts at a time")


async def _drain(receive: Receive) -> None:
    """Read on for a moment: a client that is cut off while it sends does not see why."""
    left = _DRAINED_BYTES
    try:
        async with asyncio.timeout(_DRAINED_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return
    except TimeoutError:
        pass


class _Replayed:
    """A body that was read, and then whatever comes."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Answer:
    """Where a response goes; remembers its status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._started = False
        self.status = 500

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started, self.status = True, message["status"]
        await self._send(message)

    async def refuse(self, refused: Refused) -> None:
        """Say it, unless another answer has begun."""
        if self._started:
            return
        body = refused.body()
        headers: dict[str, Any] = {"content-type": "application/json", "content-length": len(body)} | refused.headers()
        if refused.status in (401, 408, 413):  # the rest of its body may still come
            headers["connection"] = "close"
        encoded = [(name.encode(), str(value).encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": refused.status, "headers": encoded})
        await self({"type": "http.response.body", "body": body})
