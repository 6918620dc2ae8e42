"""A file system of a few hundred kilobytes, to be filled and to be made read-only."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A small file system on a new folder; the test is skipped where one cannot be mounted."""
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"cannot mount a small file system here (needs root): {mount.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def filled(disk: Path, leaving_kilobytes: int = 0) -> Iterator[None]:
    """The disk is full while the context lasts, but for some room."""
    ballast, room = disk / "ballast", disk / "room"
    room.write_bytes(b"\0" * 1024 * leaving_kilobytes)
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    room.unlink()
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Whoever opens a file below the folder while the context lasts cannot write it."""
    for options in (["--bind", folder, folder], ["-o", "remount,bind,ro", folder]):
        subprocess.run(["mount", *options], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--recursive", folder], check=True)
