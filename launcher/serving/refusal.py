"""Why a request gets no result, as the client is told it."""

from __future__ import annotations

from launcher.predict_results import as_json


class Refused(Exception):
    """A request is answered with an error.

    Args:
        status: HTTP status.
        message: one line: what is wrong and what to do.
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = " ".join(message.splitlines())  # names that a client sends may hold several
        self.status, self.retry_after = status, retry_after

    def headers(self) -> dict[str, str]:
        """Headers of the response, besides content type and length."""
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return headers | ({"www-authenticate": "Bearer"} if self.status == 401 else {})

    def body(self) -> bytes:
        """`{"error": "…"}`."""
        return as_json({"error": self.message}).encode()
