"""Which body of `span_pool` runs. Compiled ones are built from csrc/ when first asked for, and kept in a cache folder.

The sources know nothing of torch, so a build takes seconds and fits every release of torch; they are called through
ctypes. `make kernels` builds them ahead of time, into `prebuilt/`, for machines that have no compiler.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from data_shards.errors import UserError
from spe_dist.config import SpanPoolBody
from spe_dist.kernels.bodies import Body, CppBody, CudaBody, ReferenceBody

LOGGER = logging.getLogger(__name__)

_SOURCES = Path(__file__).parent / "csrc"
PREBUILT = Path(__file__).parent / "prebuilt"
_REFERENCE = ReferenceBody()
_WITHOUT = {  # what runs then
    "cpp": "span_pool and int8 exports compute with PyTorch alone, which is slower and needs more memory",
    "cuda": "span_pool uses its PyTorch reference, which is slower and needs more memory",
}
_DEVICES: dict[str, Literal["cpp", "cuda"]] = {"cpu": "cpp", "cuda": "cuda"}
_PORTABLE = {"x86_64": "x86-64-v3"}  # what nearly every machine of the last ten years runs
_GENERATIONS = (80, 90, 100)  # of GPUs, where they are not known: A100, H100 and H200, B200
_FLAGS = {
    "cpp": ["-O3", "-std=c++17", "-fopenmp", "-shared", "-fPIC", "-Wno-psabi"],
    "cuda": ["-O3", "-std=c++17", "-shared", "-Xcompiler", "-fPIC"],
}
_chosen: SpanPoolBody = "auto"


def choose(body: SpanPoolBody, device: torch.device) -> None:
    """Say which body this process uses from here on; `auto` takes the compiled one of the tensor's device if it builds.

    Raises:
        UserError: the body was named and cannot be had here.
    """
    global _chosen
    if body in ("cpp", "cuda"):
        if _DEVICES[device.type] != body:
            raise UserError(f"kernels.span_pool is {body}, but this run computes on {device.type}: choose auto")
        problem = _load(body)[1]
        if problem:
            raise UserError(f"kernels.span_pool is {body}, but {problem}")
    _chosen = body


def body_for(device: torch.device) -> Body:
    """What computes on tensors of a device."""
    if _chosen == "reference" or device.type not in _DEVICES:
        return _REFERENCE
    return _load(_DEVICES[device.type])[0]


def cpu_library() -> ctypes.CDLL | None:
    """All that is compiled for CPUs; None where it cannot be built, or was not wanted."""
    body = body_for(torch.device("cpu"))
    return body.library if isinstance(body, CppBody) else None


@cache
def _load(body: Literal["cpp", "cuda"]) -> tuple[Body, str]:
    """The body, or the reference and why there is no other; said once."""
    try:
        path = build(body)
        return (CppBody if body == "cpp" else CudaBody)(path), ""
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", "") or str(error)
        reason = detail.strip().splitlines()[0] if detail.strip() else repr(error)
        LOGGER.warning("%s: compiled code cannot be built: %s", _WITHOUT[body], reason)
        return _REFERENCE, f"it cannot be built: {reason}"


def build(body: Literal["cpp", "cuda"], *, folder: Path | None = None) -> Path:
    """Compile a body unless the same one is there already.

    Args:
        body: which one.
        folder: where to, for any machine; by default the user's cache, for this machine.

    Raises:
        OSError: there is no compiler, or the folder cannot be written.
        subprocess.SubprocessError: the compiler failed.
    """
    if folder is not None:
        return _built(body, folder, portable=True)
    prebuilt = PREBUILT / _name(body, portable=True)
    # What is built ahead for CPUs knows no AVX-512: a build for this one is preferred. For GPUs it is the same code.
    if body == "cuda" and prebuilt.exists():
        return prebuilt
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spe_dist" / "kernels"
    try:
        return _built(body, cached, portable=False)
    except (OSError, subprocess.SubprocessError):
        if prebuilt.exists():
            return prebuilt
        raise


def _built(body: Literal["cpp", "cuda"], folder: Path, *, portable: bool) -> Path:
    path = folder / _name(body, portable=portable)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f"{path.name}.lock").open("w") as lock:
        # The ranks of a machine start together: one compiles, the others wait; all compile where there are no locks.
        with suppress(OSError, ImportError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _compile(body, path, portable=portable)
    return path


def _compile(body: Literal["cpp", "cuda"], path: Path, *, portable: bool) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unfinished = Path(folder) / path.name
        command = [*_command(body, portable=portable), "-o", str(unfinished), str(_source(body))]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        unfinished.rename(path)


def _command(body: Literal["cpp", "cuda"], *, portable: bool) -> list[str]:
    if body == "cpp":
        compiler = os.environ.get("CXX", "g++").split()
        return [*compiler, *_FLAGS[body], *_tuned_for_processor(portable=portable)]
    home = os.environ.get("CUDA_HOME")
    nvcc = shutil.which("nvcc") or (f"{home}/bin/nvcc" if home else "nvcc")
    listed = subprocess.run([nvcc, "--list-gpu-arch"], check=True, capture_output=True, text=True, timeout=60)
    known = [int(number) for number in re.findall(r"^compute_(\d+)$", listed.stdout, re.MULTILINE)]
    return [nvcc, *_FLAGS[body], *gpu_targets(_GENERATIONS if portable else _generations_here(), known)]


def _tuned_for_processor(*, portable: bool) -> list[str]:
    kind = platform.machine()
    machine = _PORTABLE.get(kind, "") if portable else "native"
    # Vectors of 512 bits leave 4 of the recipes' 100 channels over: a forward pass takes 1.4 times as long (AMD Zen 5).
    width = ["-mprefer-vector-width=256"] if kind == "x86_64" and not portable else []
    return [f"-march={machine}", *width] if machine else []


def gpu_targets(wanted: Sequence[int], known: Sequence[int]) -> list[str]:
    """Arguments of nvcc: machine code for the generations that it knows, and PTX that later ones compile themselves.

    Args:
        wanted: compute capabilities, such as 90.
        known: those that nvcc knows; one older than a GPU does not know its capability.

    Raises:
        OSError: nvcc knows none that the GPUs could run.
    """
    older = [generation for generation in known if generation <= max(wanted)]
    if not older:
        raise OSError(f"nvcc is too new for compute capability {max(wanted)}")
    exact = [f"-gencode=arch=compute_{one},code=sm_{one}" for one in wanted if one in known]
    return [*exact, f"-gencode=arch=compute_{max(older)},code=compute_{max(older)}"]


def _generations_here() -> list[int]:
    """Compute capabilities of all GPUs that this process sees: they share one library."""
    found = {torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())}
    return sorted(10 * major + minor for major, minor in found)


def _source(body: Literal["cpp", "cuda"]) -> Path:
    return _SOURCES / f"span_pool.{'cpp' if body == 'cpp' else 'cu'}"


def _texts(body: Literal["cpp", "cuda"]) -> list[bytes]:
    """Contents of the source and of what it includes."""
    headers = _SOURCES.glob("*.h" if body == "cpp" else "*.*h")
    return [path.read_bytes() for path in (*sorted(headers), _source(body))]


def _name(body: Literal["cpp", "cuda"], *, portable: bool) -> str:
    """A file name that changes with the sources, the flags and, for this machine alone, its processor or GPUs."""
    texts = _texts(body)
    if body == "cpp":
        texts.append(" ".join([*_FLAGS[body], *_tuned_for_processor(portable=portable)]).encode())
        texts += [] if portable else [_processor()]
    else:
        generations = _GENERATIONS if portable else _generations_here()
        texts.append(f"{' '.join(_FLAGS[body])} {generations}".encode())
    digest = hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]
    return f"span_pool-{body}-{digest}.so"


@cache
def _processor() -> bytes:
    """What this processor can do: a home folder may be shared by machines of several kinds."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    flags = [line for line in lines if line.startswith(("flags", "Features"))]
    return (flags[0] if flags else platform.processor()).encode()


if __name__ == "__main__":  # make kernels
    for kind in _DEVICES.values():
        try:
            print(build(kind, folder=PREBUILT))  # noqa: T201
        except (OSError, subprocess.SubprocessError) as problem:
            print(f"{kind}: not built, {getattr(problem, 'stderr', '') or problem}")  # noqa: T201
