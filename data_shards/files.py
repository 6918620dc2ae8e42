"""Files that are either whole or not there, and their hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from data_shards.errors import UserError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES)
_WRONG_PLACE = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


def sha256_of(data: bytes) -> str:
    """SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(path: Path, size: int, sha256: str) -> bool:
    """Whether a file is there and holds these bytes."""
    return path.is_file() and path.stat().st_size == size and sha256_of_file(path) == sha256


def temporary_name(path: Path) -> Path:
    """Where a file is written before it gets its own name; hidden, and told apart by process."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_temporary_files(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that, whatever happens, its name holds all of the data or what it held before.

    Raises:
        OSError: the data could not be written; nothing is left behind.
    """
    with written_atomically(path) as file:
        file.write(data)


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write into that gets its name when the block ends well; if it does not, nothing is left behind."""
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


@contextmanager
def written_output(path: Path) -> Iterator[BinaryIO]:
    """As `written_atomically`, for a path that a person gives as output.

    A link stays one: the file that it points to is replaced. (Folders of this program keep replacing links: those of a
    hub's cache point to what others share.) What is no file (a device, a pipe), or a file that is open already under a
    name of the system (`/dev/stdout`), is written directly.
    """
    is_open = path.is_symlink() and path.absolute().parts[1] in ("dev", "proc")
    if is_open or (path.exists() and not path.is_file()):
        with path.open("ab") as file:  # what it holds already stays
            yield file
        return
    with written_atomically(path.resolve() if path.is_symlink() else path) as file:
        yield file


def is_new(folder: Path) -> bool:
    """Whether a folder is empty or not there, so that it can be written without harm."""
    return not folder.exists() or (folder.is_dir() and next(folder.iterdir(), None) is None)


def require_name(folder: Path) -> None:
    """Refuse `.`, `..` and `/`: a folder that is written whole gets its name last, so it must have one of its own."""
    if folder.name in ("", ".."):
        raise UserError(f"{folder} is not the name of a new folder: give the folder a name, such as {folder / 'found'}")


@contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """A folder to write into that gets its name when the block ends well; if it does not, nothing is left behind.

    Raises:
        UserError: there is a file or a folder with files of that name already, or it cannot be written, or has no name.
    """
    require_name(path)
    with explain_write_errors(path.parent):
        if not is_new(path):
            raise UserError(f"{path} is there already: remove it, or name another folder")
        temporary = temporary_name(path)
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had the same number
        try:
            temporary.mkdir(parents=True)
            yield temporary
            if path.exists():
                path.rmdir()
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync(path.parent)


@contextmanager
def explain_write_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk, a folder that cannot be written, or a file in its place into a `UserError` that names it."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise UserError(
                f"no space left in {folder}: free some space there and start the same command again; "
                "what is finished is kept"
            ) from error
        if error.errno in _NOT_WRITABLE:
            reason = os.strerror(error.errno).lower()
            raise UserError(f"cannot write to {error.filename or folder}: {reason}") from error
        in_the_way = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
        if in_the_way is not None and isinstance(error, FileExistsError | NotADirectoryError):
            raise UserError(f"cannot write to {folder}: {in_the_way} is a file, not a folder") from error
        if isinstance(error, _WRONG_PLACE):
            raise UserError(f"cannot write to {error.filename or folder}: {(error.strerror or '').lower()}") from error
        raise


def require_writable(folder: Path) -> None:
    """Try to write where a folder is, or would be made; nothing stays there."""
    place = folder.absolute()
    try:
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise UserError(f"cannot write to {folder}: {place} is a file, not a folder")
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {place}: {(error.strerror or str(error)).lower()}") from error


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries (new names, renamed ones), are on the disk.

    Several file systems of networks and containers cannot do that for folders; then their entries are as safe as there.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in _NO_FOLDER_SYNC):
            raise
