"""The versions a run was made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("torch", "deepspeed", "transformers", "tokenizers", "safetensors", "webdataset", "numpy", "ray")


def package_versions() -> dict[str, str]:
    """Of Python and of the packages that matter, as far as they are installed (ray need not be)."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
