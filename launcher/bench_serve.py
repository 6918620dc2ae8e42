"""`spe bench serve -- MODEL FILE …`: a service under load, while its processes are killed and bad requests come."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import psutil
import tyro

from data_shards.counted import counted
from data_shards.errors import UserError
from launcher.serve import free_port, least_and_most
from spe_dist.benchmarks.service_load import (
    Answer,
    Connections,
    Target,
    at_a_rate,
    bad_requests,
    is_same,
    requests_for,
)
from spe_dist.text_table import markdown_table

_TOLERANCE = {"fp32": 2e-4, "bf16": 0.05, "int8": 0.05}  # of scores: other batches are rounded differently
_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
_START_SECONDS, _BETWEEN_KILLS = 300, 2.0


@dataclass(frozen=True)
class ServeBench:
    """What `spe bench serve` measures, after `--`.

    It starts spe serve on this machine and sends single texts at a rate: undisturbed; while processes of the model are
    killed (kill -9); while as many bad requests come beside. Latency counts from when a request was due. Every answer
    is compared with that of an extractor in this process.
    """

    model: tyro.conf.Positional[Path]
    """Folder of an extractor."""
    files: tyro.conf.Positional[tuple[str, ...]]
    """Files of text, as for spe predict."""
    texts: int = 200
    """Different texts to send."""
    rate: float = 200.0
    """Requests in a second."""
    seconds: float = 10.0
    """Seconds of each part."""
    kills: int = 3
    """Processes to kill."""
    bad_requests: int = 1000
    """Bad requests to send."""
    precision: Literal["bf16", "fp32"] | None = None
    """Precision of the service and of what it is compared with. Default: that of spe serve."""
    replicas: str = "2"
    """Processes of the model, as of spe serve: a number, or LEAST:MOST. Then it is measured how soon after the first
    request they are MOST, and how soon after the last answer LEAST again."""
    seed: int = 0
    """Seed of the bad requests."""


@dataclass
class Part:
    """A part of the test and what became of its requests.

    Args:
        name: name of the part.
        requests: that were sent.
        refused: answers 503.
        lost: neither an answer nor 503.
        wrong: answers that are not the extractor's.
        milliseconds: share of the answers → time in which they came.
        notes: what else is known.
    """

    name: str
    requests: int
    refused: int = 0
    lost: int = 0
    wrong: int = 0
    milliseconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)

    def judge(self, answers: dict[int, Answer], expected: Sequence[Any], tolerance: float) -> None:
        """Count what came.

        Args:
            answers: by the numbers of the requests.
            expected: results of the texts, which the requests go through again and again.
            tolerance: by which scores may differ.
        """
        good = {number: answer for number, answer in answers.items() if answer.status == 200}
        self.refused = sum(answer.status == 503 for answer in answers.values())
        self.lost = self.requests - len(good) - self.refused
        self.wrong = sum(
            not is_same(json.loads(answer.body)["results"], [expected[number % len(expected)]], tolerance)
            for number, answer in good.items()
        )
        ordered = sorted(answer.seconds for answer in good.values()) or [float("nan")]
        for name, share in _SHARES.items():
            place = min(int(share * len(ordered)), len(ordered) - 1)
            self.milliseconds[name] = round(1000 * ordered[place], 1)


def measure_service(settings: ServeBench) -> tuple[list[Part], str]:
    """Start a service, load it, end it.

    Args:
        settings: settings of the test.

    Returns:
        Its parts, and a table of them.

    Raises:
        UserError: there are too few texts, or the service does not start.
    """
    texts = _read_texts(settings)
    expected, tolerance = _expected(settings, texts)
    with _running(settings) as (service, target):
        parts = asyncio.run(_load(settings, service, target, texts, expected, tolerance))
        service.send_signal(signal.SIGTERM)
        ended = service.wait(_START_SECONDS)
    parts[-1].notes["status of the service at its end"] = ended
    header = ["part", "requests", "refused", "lost", "wrong", *(f"{share} ms" for share in _SHARES)]
    rows = [
        [part.name, part.requests, part.refused, part.lost, part.wrong, *part.milliseconds.values()] for part in parts
    ]
    notes = "".join(f"{part.name}: {name}: {value:g}\n" for part in parts for name, value in part.notes.items())
    return parts, f"{markdown_table(header, rows)}\n\n{notes}"


def _read_texts(settings: ServeBench) -> list[str]:
    from launcher.predict_input import read_items

    items = (item.text for item in read_items(settings.files))
    texts = list(islice((text for text in items if isinstance(text, str) and text.strip()), settings.texts))
    if len(texts) < settings.texts:
        raise UserError(
            f"there is only {counted(len(texts), 'text')}, fewer than {settings.texts}: give more or a smaller --texts"
        )
    return texts


def _expected(settings: ServeBench, texts: Sequence[str]) -> tuple[list[Any], float]:
    """Results, and by how much their scores may differ."""
    from spe_dist.extraction.predict.extractor import Extractor

    extractor = Extractor.from_pretrained(settings.model, device="cpu", precision=settings.precision)
    tolerance = _TOLERANCE.get(extractor.backend, _TOLERANCE[extractor.precision])
    return [found.as_json() for found in extractor(texts)], tolerance


@contextmanager
def _running(settings: ServeBench) -> Iterator[tuple[psutil.Popen, Target]]:
    with tempfile.TemporaryDirectory(prefix="spe-bench-") as folder:
        port, token = free_port("127.0.0.1", 0, "--port"), Path(folder, "token")
        command = [sys.executable, "-m", "spe_dist", "serve", f"model={settings.model}", f"--port={port}"]
        command += [f"--token-file={token}", f"--replicas={settings.replicas}", "--device=cpu", "--max-queued=2000"]
        command += [] if settings.precision is None else [f"--precision={settings.precision}"]
        with Path(folder, "err").open("w+") as err:
            service = psutil.Popen(command, stdout=subprocess.PIPE, stderr=err)
            try:
                if not service.stdout.readline():
                    err.seek(0)
                    raise UserError(f"the service does not start: {err.read().strip()}")
                yield service, Target("127.0.0.1", port, token.read_text().strip())
                err.seek(0)
                if "Traceback" in err.read():
                    raise UserError("the service printed a traceback")
            finally:
                if service.poll() is None:
                    service.send_signal(signal.SIGTERM)
                    service.wait(_START_SECONDS)


async def _load(
    settings: ServeBench,
    service: psutil.Popen,
    target: Target,
    texts: Sequence[str],
    expected: Sequence[Any],
    tolerance: float,
) -> list[Part]:
    connections = Connections(target)

    async def part(name: str, rate: float, seconds: float) -> Part:
        requests = requests_for(target, texts, round(rate * seconds))
        measured, answers, before = Part(name, len(requests)), dict[int, Answer](), _cpu_seconds(service)
        await at_a_rate(connections, requests, rate, answers.__setitem__)
        after = _cpu_seconds(service)
        measured.judge(answers, expected, tolerance)  # the service shares the processor: not before all have come
        for process in after:
            spent = 1000 * (after[process] - before.get(process, 0.0)) / len(requests)
            if spent > 0:  # killed processes take theirs with them
                measured.notes[f"processor time, ms a request: {process}"] = round(spent, 2)
        measured.notes["load average of the machine"] = round(os.getloadavg()[0], 1)
        return measured

    gc.collect()
    gc.freeze()  # a look through all that this process has imported would hold up answers
    least, most = least_and_most(settings.replicas)
    grown = asyncio.create_task(_seconds_until(service, most)) if least < most else None
    await part("warm-up", settings.rate, 3.0)
    parts = [await part(f"{settings.rate:g} requests a second", settings.rate, settings.seconds)]
    if grown is not None:
        grown.cancel()
        parts[0].notes |= await grown
    if settings.kills:
        disturbed = asyncio.create_task(_kill(service, settings.kills))
        parts.append(
            await part(f"the same, {counted(settings.kills, 'process')} killed", settings.rate, settings.seconds)
        )
        parts[-1].notes["processes killed"] = await disturbed
    if settings.bad_requests:
        disturbed = asyncio.create_task(_send_bad(target, settings))
        parts.append(
            await part(f"the same beside {settings.bad_requests:,} bad requests", settings.rate, settings.seconds)
        )
        parts[-1].notes["bad requests not refused as they should be"] = await disturbed
    connections.close()
    if least < most:
        parts[-1].notes |= await _seconds_until(service, least)
    return parts


async def _seconds_until(service: psutil.Process, processes: int) -> dict[str, float]:
    """A note, if the model comes to have so many processes."""
    began = time.monotonic()
    with suppress(asyncio.CancelledError):
        while time.monotonic() < began + _START_SECONDS:
            await asyncio.sleep(1)
            if len(await asyncio.to_thread(model_processes, service)) == processes:
                return {f"seconds until the model had {counted(processes, 'process')}": round(time.monotonic() - began)}
    return {}


def model_processes(service: psutil.Process) -> list[psutil.Process]:
    """The processes of a service that have a model."""
    return [one for one in service.children(recursive=True) if "ServeReplica" in _command_of(one)]


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _cpu_seconds(service: psutil.Process) -> dict[str, float]:
    """CPU seconds of the processes of a service, by what they do, and of this process."""
    total = {"proxy": 0.0, "models": 0.0, "the rest of Ray": 0.0, "sender": time.process_time()}
    for one in service.children(recursive=True):
        command = _command_of(one)
        what = "models" if "ServeReplica" in command else "proxy" if "ProxyActor" in command else "the rest of Ray"
        with suppress(psutil.Error):
            total[what] += sum(one.cpu_times()[:2])
    return total


async def _kill(service: psutil.Process, count: int) -> int:
    killed = 0
    end = time.monotonic() + _START_SECONDS
    while killed < count and time.monotonic() < end:
        await asyncio.sleep(_BETWEEN_KILLS)
        for one in model_processes(service)[:1]:
            one.kill()
            killed += 1
    return killed


async def _send_bad(target: Target, settings: ServeBench) -> int:
    """Sixteen at a time; the number of those that were answered otherwise than they should be."""
    bad = islice(bad_requests(target, random.Random(settings.seed)), settings.bad_requests)
    wrong = 0

    async def send_some() -> None:
        nonlocal wrong
        connections = Connections(target)
        for request, statuses in bad:
            answer = await connections.send(request)
            try:
                told = json.loads(answer.body)
                good = answer.status in statuses and told.keys() == {"error"} and "\n" not in told["error"]
            except ValueError:
                good = False
            wrong += not good
        connections.close()

    await asyncio.gather(*(send_some() for _ in range(16)))
    return wrong
