"""No Ray without a token: whoever reaches an open Ray runs what they like, on every node.

Ray listens on all addresses of a machine (its GCS and raylets, even if it is told 127.0.0.1), so a token is asked for
everywhere. Whether a cluster wants one is asked of the cluster itself: its control service (GCS) gets a request without
a token before ours is sent to it.
"""

from __future__ import annotations

import logging
import os
import re
from enum import Enum
from pathlib import Path
from typing import Any

import grpc
import ray
import ray.exceptions

from data_shards.errors import UserError
from data_shards.pipeline.ray_start import LOCAL, init_ray

LOGGER = logging.getLogger(__name__)

_MODE = "RAY_AUTH_MODE"
_ASK = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # every client's first request; its message has no fields to fill in
_HOST_AND_PORT = re.compile(r"[^/]+:\d+")
_REFUSALS = (ConnectionError, ValueError, ray.exceptions.AuthenticationError)
_ALLOW = "--cluster.allow-unauthenticated joins all the same"


class Access(Enum):
    """What a GCS says to a request without a token."""

    TOKEN = "asks for a token"
    OPEN = "answers anybody"
    UNKNOWN = "no answer"


def probe_access(gcs_address: str, *, seconds: float = 15.0) -> Access:
    """Ask the GCS at `HOST:PORT` without a token; one that is still starting gets some seconds."""
    # As Ray itself does, past any HTTP proxy.
    with grpc.insecure_channel(gcs_address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_ASK)(b"", timeout=seconds, wait_for_ready=True)
        except grpc.RpcError as error:
            return Access.TOKEN if error.code() is grpc.StatusCode.UNAUTHENTICATED else Access.UNKNOWN
    return Access.OPEN


def connect(address: str, *, allow_unauthenticated: bool, **settings: Any) -> None:
    """`ray.init`, but only with a Ray that asks for a token.

    Args:
        address: as `ray.init` takes it; `LOCAL` starts a Ray here.
        allow_unauthenticated: an open one is joined, or started, with a warning.
        settings: for `ray.init`.

    Raises:
        UserError: the cluster is open, cannot be reached, or does not take the token of this process; a Ray here did
            not start.
    """
    known = probe_access(address) if _HOST_AND_PORT.fullmatch(address) else None
    if known is Access.OPEN or (address == LOCAL and os.environ.get(_MODE, "token").lower() != "token"):
        _refuse_open(address, allow_unauthenticated)  # before our token travels, before a port opens
    if known is Access.UNKNOWN and not allow_unauthenticated:  # ray.init would go on trying for minutes
        raise UserError(f"no Ray head answers at {address}: is it running, and is its port open to this machine?")
    if known is Access.TOKEN:
        _require_token_mode(address)
    try:
        init_ray(address, **settings)
    except UserError as error:
        if known is Access.TOKEN and isinstance(error.__cause__, _REFUSALS):
            raise UserError(
                f"cannot join the Ray cluster at {address}: it rejects the token found here (~/.ray/auth_token, "
                "RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN): copy the cluster's token"
            ) from error
        raise
    if known is None:
        _check_joined(address, allow_unauthenticated)
    if address == LOCAL:
        _close_token_file()


def _check_joined(address: str, allow_unauthenticated: bool) -> None:
    """Refuse an open cluster whose address Ray itself had to find, or that was started here, unless that is allowed."""
    access = probe_access(ray.get_runtime_context().gcs_address)
    if access is Access.TOKEN:
        return
    try:
        _refuse_open(address, allow_unauthenticated, access)
    except UserError:
        ray.shutdown()
        raise


def _close_token_file() -> None:
    """Ray writes the token that it makes for a Ray of one's own as a file that everybody can read."""
    path = Path.home() / ".ray" / "auth_token"
    if path.is_file() and path.stat().st_uid == os.getuid() and path.stat().st_mode & 0o077:
        path.chmod(0o600)


def _refuse_open(address: str, allow_unauthenticated: bool, access: Access = Access.OPEN) -> None:
    where = "a Ray started here" if address == LOCAL else f"the Ray cluster at {address}"
    danger = (
        f"{where} {'asks for no token' if access is Access.OPEN else 'does not reveal whether it requires a token'}"
    )
    if allow_unauthenticated:
        LOGGER.warning("%s: anyone who can reach its ports can run code on its nodes, as you", danger)
        return
    remedy = (
        f"unset {_MODE}"
        if address == LOCAL
        else f"start every node with {_MODE}=token and one token (`ray get-auth-token --generate`)"
    )
    raise UserError(f"{danger}: anyone who can reach its ports can run code on its nodes, as you; {remedy}. {_ALLOW}")


def _require_token_mode(address: str) -> None:
    if os.environ.get(_MODE, "").lower() != "token":
        raise UserError(
            f"the Ray cluster at {address} asks for a token: set {_MODE}=token, with the cluster's token in "
            "~/.ray/auth_token or in a file that RAY_AUTH_TOKEN_PATH names"
        )
