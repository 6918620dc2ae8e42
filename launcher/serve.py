"""`spe serve MODEL …`: a service that answers over HTTP with what extractors find."""

from __future__ import annotations

import ipaddress
import re
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Literal

import tyro

from data_shards.errors import UserError
from data_shards.stop_requests import first_request
from launcher.arguments import parse_arguments
from launcher.predict_formats import version_of
from launcher.serving.model_source import Source, folder_of, source_of
from launcher.serving.settings import Batching, Limits, ReplicaSettings, ServiceSettings
from launcher.serving.token import digest_of, new_token, token_of_file
from spe_dist.finetuning.model_stem import require_model

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REPLICAS = re.compile(r"(\d+)(?::(\d+))?")
_UPDATE = getattr(signal, "SIGUSR1", None)  # Windows has none


@dataclass(frozen=True)
class Serve:
    """Serve extractors over HTTP: requests with texts, answers with their entities and relations.

    In a shell:
        spe serve runs/people/seed-1/model
        spe serve people=runs/people/seed-1/model places=runs/places/seed-1/model --replicas 1:4

    POST /v1/extract with {"texts": ["…"]} returns what spe predict writes; /docs describes the API. Requests need the
    token that is printed at the start. Ctrl-C ends the service after all requests are answered. To change a model
    without downtime, replace its folder and send the signal USR1. See docs/serving.md.
    """

    models: tyro.conf.Positional[tuple[str, ...]]
    """Fine-tuned extractors: folders, such as RUN/seed-1/model, or USER/MODEL on the Hugging Face hub (spe push).
    NAME=FOLDER sets the model's name. Default: the run's name, or MODEL. The first model answers requests that name no
    model."""
    host: str = "127.0.0.1"
    """Address to listen at. The default is for this machine alone; 0.0.0.0 is for all networks."""
    port: int = 8000
    """Port to listen at; 0 picks a free one."""
    token_file: Path | None = None
    """File with the token that requests must send; only you may have read access. It is created if it does not exist.
    Default: a new token at each start."""
    no_token: tyro.conf.FlagCreatePairsOff[bool] = False
    """Accept requests without a token; allowed only if the service listens at an address of this machine alone."""
    device: Literal["cpu", "cuda"] | None = None
    """Device: cpu or cuda. Default: GPUs if there are any."""
    precision: Literal["bf16", "fp32"] | None = None
    """Precision: bf16 or fp32. Default: fp32 on a CPU and bf16 on a GPU."""
    replicas: str = "1"
    """Processes for each model: a number, or LEAST:MOST to scale with the load between the two."""
    threads: int = 1
    """Threads of each process, on a CPU."""
    batch_texts: int = Batching.texts
    """Maximum number of texts that a process reads at once, of one request or several."""
    batch_wait_ms: float = 1000 * Batching.wait_seconds
    """Milliseconds that a request waits for other requests to form a batch."""
    max_texts: int = Limits.texts
    """Maximum number of texts in a request."""
    max_characters: int = Limits.characters
    """Maximum number of characters in a text."""
    max_body_bytes: int = Limits.body_bytes
    """Maximum size of a request in bytes."""
    max_queued: int = Batching.queue
    """Requests that may wait for a process of a model; more are refused until there is room."""
    timeout: float = Limits.seconds
    """Time limit in seconds to receive a request, and to answer it."""
    grace: float = 30.0
    """Seconds that running requests have to finish when the service ends."""
    metrics_port: int = 0
    """Port at which Ray publishes all its metrics, on all addresses of this machine; /metrics has those of the service.
    0: a free one."""


def main(argv: list[str]) -> None:
    """Run `spe serve` until it is asked to end."""
    command: Serve = parse_arguments(Serve, argv, prog="spe serve")
    models = models_of(command.models)
    least, most = least_and_most(command.replicas)
    _check_numbers(command)
    token = token_of(command)
    host, port = command.host, free_port(command.host, command.port, "--port")
    asked: SimpleQueue[str] = SimpleQueue()
    if _UPDATE is not None:  # before the seconds that the start takes: the signal would end it
        signal.signal(_UPDATE, lambda *_: asked.put("update"))
    from launcher.serving.service import Address, Scaling, Service

    limits = Limits(command.max_texts, command.max_characters, command.max_body_bytes, command.timeout)
    batching = Batching(command.batch_texts, command.batch_wait_ms / 1000, most, command.max_queued)
    replicas = ReplicaSettings(command.device, command.precision, command.threads, command.batch_texts)
    with TemporaryDirectory(prefix="spe-serve-") as folder:
        metrics_port = free_port("0.0.0.0", command.metrics_port, "--metrics-port")
        digest = digest_of(token) if token else ""
        settings = ServiceSettings(tuple(models), digest, limits, batching, folder, metrics_port)
        scaling, address = Scaling(least, most), Address(host, port)
        service = Service(models, settings, replicas, scaling, address, command.grace)
        print(f"starting Ray and {', '.join(models)}: this takes some seconds", file=sys.stderr, flush=True)
        with service.running(), first_request(lambda: asked.put("end")):
            _say_where(command, address.local_url, tuple(models), token)
            while asked.get() == "update":
                for line in service.update():
                    print(line, flush=True)
            print("ending: requests that have come are answered", file=sys.stderr, flush=True)
    print("ended", file=sys.stderr)


def models_of(given: Sequence[str]) -> dict[str, Source]:
    """Name → folder, or USER/MODEL on the hub.

    Raises:
        UserError: one is no extractor, or two have one name.
    """
    models: dict[str, Source] = {}
    for one in given:
        name, equals, path = one.partition("=")
        if Path(one).is_dir():  # such as runs/lr=3/seed-1/model
            equals = ""
        path = path if equals else one
        source = source_of(path)
        require_model(folder_of(source), "extractor")
        if not equals:
            name = version_of(source).partition("/")[0] if isinstance(source, Path) else Path(source).name
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{one}: the name {name!r} may have only letters, digits, '.', '_' and '-': give NAME={path}"
            )
        if name in models:
            raise UserError(f"two models have the name {name}: give one another name, such as other={path}")
        models[name] = source
    if not models:
        raise UserError("name the folder of a model, such as RUN/seed-1/model")
    return models


def least_and_most(text: str) -> tuple[int, int]:
    """Smallest and largest number of replicas that `--replicas` gives.

    Raises:
        UserError: the text is neither N nor LEAST:MOST.
    """
    match = _REPLICAS.fullmatch(text)
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= least <= most:
        raise UserError(f"--replicas {text}: give a number from 1 on, or the least and the most, such as 1:4")
    return least, most


def token_of(command: Serve) -> str:
    """The token, which may be new; empty if there shall be none.

    Raises:
        UserError: whoever reaches the address could use the models; or the token cannot be read.
    """
    if not command.no_token:
        return token_of_file(command.token_file) if command.token_file else new_token()
    if command.token_file:
        raise UserError("give either --token-file or --no-token, not both")
    if not is_loopback(command.host):
        raise UserError(
            f"--no-token would let everybody who reaches {command.host} use the models: remove --no-token or --host"
        )
    return ""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def free_port(host: str, port: int, option: str) -> int:
    """A port to listen at, which is free at the moment.

    Raises:
        UserError: it is not, or there is no such address.
    """
    try:
        with closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            return listener.getsockname()[1]
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen at {host}, port {port}: {reason}: choose another {option}") from error


def _check_numbers(command: Serve) -> None:
    for name in ("threads", "batch_texts", "max_texts", "max_characters", "max_body_bytes", "max_queued"):
        if getattr(command, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(command, name)}: it must be at least 1")
    for name in ("timeout", "grace", "batch_wait_ms"):
        value = getattr(command, name)
        least = "more than 0" if name == "timeout" else "0 or more"
        if not (0 <= value < float("inf")) or (name == "timeout" and not value):
            raise UserError(f"--{name.replace('_', '-')} {value:g}: it must be a number, {least}")


def _say_where(command: Serve, url: str, names: tuple[str, ...], token: str) -> None:
    lines = [f"{', '.join(names)} at {url}/v1/extract; {url}/docs describes it; Ctrl-C ends this"]
    if token and command.token_file:
        lines.append(f"the token is in {command.token_file}")
    elif token:
        lines.append(f"token: {token}")
    print(*lines, sep="\n", flush=True)
