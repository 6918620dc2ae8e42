"""What a person is told when no Ray comes up, or none can be joined; and that a Ray here has room for its sockets."""

import os

import pytest
import ray

from data_shards.errors import UserError
from data_shards.pipeline.ray_start import LOCAL, init_ray

LONG = "/tmp/" + "net_scratch_of_a_group/slurm_jobdir/1355700/" * 3


@pytest.fixture
def started(monkeypatch):
    """A Ray that starts at once, and what it was started with."""
    seen = []
    monkeypatch.setattr(ray, "init", lambda **settings: seen.append(os.environ.get("RAY_TMPDIR")))
    monkeypatch.setenv("RAY_TMPDIR", "as it was")  # so that it is put back
    monkeypatch.delenv("RAY_TMPDIR")
    return seen


def failing(monkeypatch, error):
    def fail(**_):
        raise error

    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(ray, "shutdown", lambda: None)


@pytest.mark.parametrize("address", ["http://head:8265", "https://head/ray", "ray://head:10001"])
def test_an_address_of_another_service_is_refused_with_the_one_to_use(address, started):
    with pytest.raises(UserError, match="HOST:PORT") as told:
        init_ray(address)
    assert address in str(told.value) and not started
    assert ("ray job submit --address http" in str(told.value)) == address.startswith("http")


@pytest.mark.parametrize(("folder", "used"), [("/tmp", None), (LONG, "/tmp")])
def test_a_temporary_folder_too_long_for_sockets_is_replaced(folder, used, started, monkeypatch):
    monkeypatch.setenv("TMPDIR", folder)
    init_ray(LOCAL)
    assert started == [used]


def test_a_long_folder_that_was_chosen_for_ray_is_a_mistake(started, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", LONG)
    with pytest.raises(UserError, match=r"RAY_TMPDIR is too long.*shorter path"):
        init_ray(LOCAL)
    assert not started


def test_another_ray_on_the_cluster_is_one_line_with_both(monkeypatch):
    versions = "    Ray: {}\n    Python: {}\n"
    error = "Version mismatch: The cluster was started with:\n" + versions.format("2.56.0", "3.10.4")
    failing(
        monkeypatch, RuntimeError(error + "This process on x was started with:\n" + versions.format("2.60.0", "3.11.9"))
    )
    with pytest.raises(UserError) as told:
        init_ray("head:6379")
    said = str(told.value)
    assert (
        "head:6379 runs Ray 2.56.0 on Python 3.10.4, here are Ray 2.60.0 and Python 3.11.9" in said and "\n" not in said
    )


@pytest.mark.parametrize(
    ("error", "variable"),
    [
        (FileNotFoundError(2, "No such file or directory", "/home/of/nobody/.ray"), "HOME"),
        (PermissionError(13, "Permission denied", "/tmp/ray/session"), "RAY_TMPDIR"),
        (RuntimeError("Could not determine home directory."), "HOME"),
    ],
)
def test_a_folder_that_cannot_be_written_is_named_with_the_variable(error, variable, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/nobody")
    failing(monkeypatch, error)
    with pytest.raises(UserError, match=f"set {variable} to a folder that you can write") as told:
        init_ray(LOCAL)
    assert (getattr(error, "filename", None) or "home") in str(told.value)


def test_what_nobody_knows_is_not_hidden(monkeypatch):
    failing(monkeypatch, KeyError("a fault of the program"))
    with pytest.raises(KeyError):
        init_ray(LOCAL)


def test_a_ray_that_does_not_start_in_time_is_one_line(monkeypatch):
    failing(monkeypatch, Exception("The current node timed out during startup. This could happen because …"))
    with pytest.raises(UserError, match=r"node timed out during startup\): is the machine busy"):
        init_ray(LOCAL)
