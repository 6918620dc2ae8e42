"""What a run was made with: versions and machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    "torch",
    "deepspeed",
    "transformers",
    "tokenizers",
    "safetensors",
    "webdataset",
    "numpy",
    "ray",
    "onnxruntime",
)


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter, without those that are not installed (such as ray)."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def this_machine() -> dict[str, str | int | None]:
    """Processor, cores and system, to stand beside measured figures."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    return {"processor": processor, "cores": os.cpu_count(), "system": platform.platform(terse=True)}
