import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_shards.errors import UserError
from data_shards.files import (
    explain_write_errors,
    remove_temporary_files,
    temporary_name,
    write_atomically,
    written_folder,
    written_output,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="no space left"), explain_write_errors(tmp_path):
        write_atomically(path, b"new")
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("a", b"old")]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    temporary_name(tmp_path / "a.tar").write_bytes(b"half")
    (tmp_path / "a.tar").write_bytes(b"whole")
    remove_temporary_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize("name", [".", "..", "a/..", "/"])
def test_a_folder_without_a_name_of_its_own_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UserError, match="is not the name of a new folder"), written_folder(Path(name)):
        pass


def test_a_link_in_a_folder_of_this_program_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    shared, link = tmp_path / "shared", tmp_path / "link"
    shared.write_bytes(b"of others too")
    link.symlink_to(shared)
    write_atomically(link, b"own")
    assert (shared.read_bytes(), link.read_bytes(), link.is_symlink()) == (b"of others too", b"own", False)


def test_a_link_stays_one_and_the_file_that_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    for there, name in ((True, "old"), (False, "new")):
        target, link = tmp_path / "far" / name, tmp_path / f"link to {name}"
        if there:
            target.write_bytes(b"before")
        link.symlink_to(target)
        with written_output(link) as file:
            file.write(b"now")
        assert link.is_symlink() and target.read_bytes() == b"now"
    assert sorted(path.name for path in (tmp_path / "far").iterdir()) == ["new", "old"]


def test_a_pipe_is_written_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # so that whoever writes does not wait
    try:
        with written_output(pipe) as file:
            file.write(b"now")
        assert os.read(reader, 10) == b"now"
    finally:
        os.close(reader)
    assert pipe.is_fifo() and [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_the_file_that_standard_output_goes_to_is_not_replaced(tmp_path: Path) -> None:
    program = """
from data_shards.files import *
with written_output(Path('/dev/stdout')) as file:
    file.write(b'now')
print(' and after')
"""
    with (tmp_path / "out").open("ab") as out:
        out.write(b"before ")
        out.flush()
        subprocess.run([sys.executable, "-c", program], check=True, stdout=out)
    assert (tmp_path / "out").read_bytes() == b"before now and after\n"
