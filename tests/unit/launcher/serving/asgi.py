"""Requests to an ASGI application without a server."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self) -> str:
        """The one line, beside which there is nothing."""
        told = self.json()
        assert list(told) == ["error"] and "\n" not in told["error"] and "Traceback" not in told["error"]
        assert self.headers["content-type"] == "application/json"
        return told["error"]


async def ask(
    app: Any,
    path: str = "/v1/extract",
    body: bytes | Iterable[bytes | float] = b"",
    *,
    method: str = "POST",
    token: str = "",
    **headers: str,
) -> Response:
    """A request.

    Args:
        body: its bytes; or parts, of which numbers are seconds to wait, and after which the client leaves.
    """
    parts = iter([body] if isinstance(body, bytes) else body)
    whole = isinstance(body, bytes)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        for part in parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
                continue
            return {"type": "http.request", "body": part, "more_body": not whole}
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    given = {"content_type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {}) | headers
    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"", "root_path": "", "scheme": "http", "server": ("x", 80), "headers": encoded,
    }  # fmt: skip
    await app(scope, receive, send)
    start, *rest = sent
    response_headers = {name.decode(): value.decode() for name, value in start["headers"]}
    content = b"".join(message.get("body", b"") for message in rest)
    assert int(response_headers["content-length"]) == len(content)
    return Response(start["status"], response_headers, content)


async def send_raw(app: Any, request: bytes) -> Response:
    """A request as it goes over a connection."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, path, _ = first.split(" ")
    headers = dict(line.lower().replace("-", "_").split(": ", 1) for line in lines if not line.startswith("Auth"))
    token = next((line.rpartition(" ")[2] for line in lines if line.startswith("Authorization")), "")
    return await ask(app, path, body, method=method, token=token, **headers)
