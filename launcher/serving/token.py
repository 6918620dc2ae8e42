"""The token that requests bring, and where it is kept."""

from __future__ import annotations

import os
import secrets
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from data_shards.errors import UserError

_LEAST = 16  # characters


def new_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def token_of_file(path: Path) -> str:
    """The token in a file, which is made, for its owner alone, if it is not there.

    Raises:
        UserError: it cannot be read or made, others may read it, or it holds no token.
    """
    try:
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w") as file:
                file.write(new_token() + "\n")
        if path.stat().st_mode & 0o077:
            raise UserError(f"--token-file {path} can be read by others: chmod 600 {path}")
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise UserError(f"--token-file {path}: {reason}: name a file that you can read or make") from error
    if len(token) < _LEAST or not token.isascii() or len(token.split()) != 1:
        raise UserError(
            f"--token-file {path} holds no token: write one of at least {_LEAST} ASCII characters without blanks, or "
            "remove the file"
        )
    return token


def digest_of(token: str) -> str:
    """What a service compares tokens by."""
    return sha256(token.encode()).hexdigest()


def is_authorised(header: bytes, token_sha256: str) -> bool:
    """Whether a request's Authorization header holds the token."""
    scheme, _, token = header.partition(b" ")
    return scheme.lower() == b"bearer" and compare_digest(sha256(token.strip()).hexdigest(), token_sha256)
