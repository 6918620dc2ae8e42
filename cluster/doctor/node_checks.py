"""Checks that a node makes on itself before a run.

Nothing is judged here (see `diagnosis.py`), and nothing hides another: each check has its own time limit and failure.
"""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from data_shards.files import sync
from data_shards.shards.reader import ShardReader
from spe_dist.engine.compiler import require_compiler
from spe_dist.kernels import compiled as span_pool_bodies
from spe_dist.versions import package_versions

_ROOT = Path(__file__).resolve().parents[2]
_WRITTEN = 32 << 20  # bytes; enough to see a slow disk, little enough for a slow one
_MARKER = ".doctor-"


@dataclass(frozen=True)
class Request:
    """What the run to come needs of a node.

    Args:
        run_folder: folder of runs.
        shards: shards of the dataset; a folder or URL.
        cache: where remote shards are kept; None for the default.
        body: body of `span_pool`, the one that must be compiled.
        gpus: whether ranks use GPUs.
        marker: marker of this examination; names the files that nodes show each other.
        seconds: time limit of each check.
    """

    run_folder: str
    shards: str
    cache: str | None
    body: Literal["cpp", "cuda"]
    gpus: bool
    marker: str
    seconds: float


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        values: by name; what JSON can hold.
        failure: one line, if the check itself could not be made.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None


def examine(request: Request, index: int) -> dict[str, Finding]:
    """All that the node of the given number can find out alone."""
    checks: dict[str, Callable[[], dict[str, Any]]] = {
        "versions": lambda: (
            package_versions()
            | {
                "glibc": "-".join(platform.libc_ver()),
                "spe_dist": _source_digest(),
            }
        ),
        "devices": lambda: _devices(request.gpus),
        "machine": _machine,
        "storage": lambda: _storage(Path(request.run_folder), f"{_MARKER}{request.marker}-speed-{index}"),
        "shards": lambda: _shards(request, index),
        "kernels": lambda: _kernels(request.body, gpus=request.gpus),
    }
    return {name: find(check, request.seconds) for name, check in checks.items()}


def find(check: Callable[[], dict[str, Any]], seconds: float) -> Finding:
    """Make a check in a thread: a file system that hangs must not stop the examination."""
    findings: list[Finding] = []

    def run() -> None:
        try:
            findings.append(Finding(check()))
        except Exception as error:  # whatever it is, the other checks go on
            findings.append(Finding(failure=one_line(error)))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return findings[0] if findings else Finding(failure=f"no answer within {seconds:.0f} s")


def one_line(error: BaseException) -> str:
    """What an exception says, without line breaks; what the compiler said, if one failed."""
    said = getattr(error, "stderr", None) or str(error)
    return " ".join(said.split())[:400] or type(error).__name__


def leave_marker(folder: Path, marker: str, index: int) -> None:
    """Write a file that the other nodes must see."""
    path = folder / f"{_MARKER}{marker}-{index}"
    path.write_text(str(index))
    sync(path)
    sync(folder)


def seen_markers(folder: Path, marker: str, count: int, *, seconds: float = 10.0) -> list[int]:
    """Numbers of the nodes whose files are seen here; network file systems may show new files late."""
    end = time.monotonic() + seconds
    while True:
        prefix = f"{_MARKER}{marker}-"
        names = {path.name.removeprefix(prefix) for path in folder.glob(f"{prefix}*")}
        seen = sorted(int(name) for name in names if name.isdigit())
        if len(seen) == count or time.monotonic() > end:
            return seen
        time.sleep(0.2)


def remove_markers(folder: Path, marker: str) -> None:
    """Take away what an examination left in a folder."""
    for path in folder.glob(f"{_MARKER}{marker}-*"):
        path.unlink(missing_ok=True)


def _source_digest() -> str:
    """Digest of the source files: two different checkouts may have the same version number."""
    digest = hashlib.sha256()
    prefix = __package__.partition("cluster")[0]  # none in a checkout (setup.py)
    for package in (f"{prefix}cluster", f"{prefix}data_shards", f"{prefix}launcher", "spe_dist"):
        for path in sorted((_ROOT / package).rglob("*.py")):
            digest.update(str(path.relative_to(_ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def _devices(wanted: bool) -> dict[str, Any]:
    values: dict[str, Any] = {"gpus": [], "cuda": torch.version.cuda}
    if shutil.which("nvidia-smi"):
        fields = "name,memory.total,driver_version,ecc.errors.uncorrected.volatile.total"
        command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise OSError(f"nvidia-smi fails: {(done.stderr or done.stdout).strip()}")
        keys = ("name", "mebibytes", "driver", "ecc_errors")
        values["gpus"] = [
            dict(zip(keys, (cell.strip() for cell in line.split(",")), strict=True))
            for line in done.stdout.splitlines()
        ]
    if wanted and values["gpus"]:
        values["usable"] = _usable_gpus()
    return values


def _usable_gpus() -> int:
    """GPUs that torch can compute on, seen by a fresh process: Ray hides them from those that reserved none."""
    program = "import torch\nfor i in range(torch.cuda.device_count()): torch.ones(1, device=f'cuda:{i}').item()\n"
    program += "print(torch.cuda.device_count())"
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    if done.returncode:
        raise OSError(f"torch cannot use the GPUs: {done.stderr.strip().splitlines()[-1]}")
    return int(done.stdout)


def _machine() -> dict[str, Any]:
    shared = shutil.disk_usage("/dev/shm")
    lines = Path("/proc/meminfo").read_text().splitlines()
    memory = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory["MemTotal"],
        "available_bytes": memory["MemAvailable"],
        "shared_memory_bytes": shared.free,
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


def _storage(folder: Path, name: str) -> dict[str, Any]:
    """Free space, and megabytes per second of a file that is written through to the disk and read from there."""
    folder.mkdir(parents=True, exist_ok=True)
    path, content = folder / name, os.urandom(_WRITTEN)
    try:
        start = time.perf_counter()
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written = time.perf_counter() - start
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # not from this machine's memory
            start = time.perf_counter()
            same = file.read() == content
            read = time.perf_counter() - start
    finally:
        path.unlink(missing_ok=True)
    if not same:
        raise OSError(f"{folder} returns different bytes than were written")
    return {
        "free_bytes": shutil.disk_usage(folder).free,
        "write_megabytes_per_second": _WRITTEN / written / 1e6,
        "read_megabytes_per_second": _WRITTEN / read / 1e6,
    }


def _shards(request: Request, index: int) -> dict[str, Any]:
    """Each node reads another shard, so that many nodes look at many."""
    reader = ShardReader(request.shards, cache_dir=request.cache)
    reader.tokenizer_folder()
    count = len(reader.manifest.shardlist)
    shard = index % count
    reader.read_shard(shard)
    return {"dataset": reader.manifest.fingerprint, "shards": count, "verified": reader.manifest.shardlist[shard].url}


def _kernels(body: Literal["cpp", "cuda"], *, gpus: bool) -> dict[str, Any]:
    """What compiles on the node's first step: the span kernel, and on CPU DeepSpeed's communication operation."""
    values: dict[str, Any] = {"body": body}
    for what, build in (("span_pool", lambda: span_pool_bodies.build(body)), ("deepspeed", require_compiler)):
        if what == "deepspeed" and gpus:
            continue
        try:
            build()
            values[what] = None
        except Exception as error:
            values[what] = one_line(error)
    return values
