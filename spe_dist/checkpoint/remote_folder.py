"""A folder at a URL: files go up and come down whole. Whatever `pyarrow.fs` opens: s3, gs, abfs, hdfs, file."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from data_shards.errors import UserError
from data_shards.shards.location import join_url, without_secrets

_WITH_RENAMES = ("local", "hdfs")  # types of `pyarrow.fs`


class RemoteFolder:
    """Files below a URL, by names relative to it.

    Args:
        url: URL of the folder, which need not be there yet.

    Raises:
        UserError: no file system is known for the URL, or it has a key in it, which would get into logs and files.
    """

    def __init__(self, url: str) -> None:
        import pyarrow as pa
        from pyarrow import fs

        self.url, shown = url.rstrip("/"), without_secrets(url)
        if urlsplit(url).password:
            raise UserError(f"{shown} contains a secret: put keys into the environment instead")
        try:
            self._files, self._path = fs.FileSystem.from_uri(self.url)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(
                f"{shown} cannot be opened ({str(error).splitlines()[0].replace(self.url, shown)}): "
                "give a URL as s3://BUCKET/PATH, gs://…, abfs://…, hdfs://… or file:///…"
            ) from error

    def __str__(self) -> str:
        """The URL for people, without what may be secret."""
        return without_secrets(self.url)

    def below(self, name: str) -> RemoteFolder:
        """The folder of that name in this one."""
        return RemoteFolder(join_url(self.url, name))

    def files(self) -> dict[str, tuple[int, float]]:
        """Size in bytes and time of writing (Unix) of every file, at any depth.

        Raises:
            OSError: the storage cannot be reached.
        """
        from pyarrow import fs

        selector = fs.FileSelector(self._path, allow_not_found=True, recursive=True)
        found = [info for info in self._files.get_file_info(selector) if info.type == fs.FileType.File]
        return {os.path.relpath(info.path, self._path): (info.size, info.mtime_ns / 1e9) for info in found}

    def entries(self) -> set[str]:
        """Names of the files and folders right below, empty folders included.

        Raises:
            OSError: the storage cannot be reached.
        """
        from pyarrow import fs

        return {info.base_name for info in self._files.get_file_info(fs.FileSelector(self._path, allow_not_found=True))}

    def upload(self, path: Path, name: str) -> None:
        """Write a local file's content under a name; the name holds all of it, or what it held before.

        Raises:
            OSError: it cannot be read or written.
        """
        from pyarrow import fs

        target = f"{self._path}/{name}"
        folder, _, last = target.rpartition("/")
        self._files.create_dir(folder, recursive=True)
        # An object appears whole or not at all; a file appears when it is opened, so it is written beside its name.
        unfinished = f"{folder}/.{last}.tmp" if self._files.type_name in _WITH_RENAMES else target
        fs.copy_files(str(path), unfinished, source_filesystem=fs.LocalFileSystem(), destination_filesystem=self._files)
        if unfinished != target:
            self._files.move(unfinished, target)

    def download(self, name: str, path: Path) -> None:
        """Write the content of a file here; `path` holds all of it, or what it held before.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: the storage cannot be reached, or `path` not written.
        """
        from pyarrow import fs

        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            fs.copy_files(
                f"{self._path}/{name}",
                str(temporary),
                source_filesystem=self._files,
                destination_filesystem=fs.LocalFileSystem(),
            )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it, if it is there.

        Raises:
            OSError: it cannot be removed.
        """
        from pyarrow import fs

        path = f"{self._path}/{name}"
        kind = self._files.get_file_info(path).type
        if kind == fs.FileType.Directory:
            self._files.delete_dir(path)
        elif kind == fs.FileType.File:
            self._files.delete_file(path)
