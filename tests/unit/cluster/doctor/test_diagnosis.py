"""Judging what was found: each planted finding gives its problem, and nothing else."""

import threading
from dataclasses import replace

import pytest

from cluster.doctor.diagnosis import Needs, diagnose, rows
from cluster.doctor.node_checks import Finding, find
from cluster.doctor.preflight import Node

NEEDS = Needs(workers=2, cpus_per_worker=1, gpus_per_worker=0, checkpoint_bytes=10**9, checkpoints=4)
GPU = {"name": "H200", "mebibytes": "143771", "driver": "570.1", "ecc_errors": "0"}
GOOD = {
    "versions": {"python": "3.11.7", "torch": "2.13.0", "deepspeed": "0.19.8", "transformers": "5.23.0"},
    "devices": {"gpus": [], "cuda": None},
    "machine": {
        "cores": 2,
        "memory_bytes": 2**34,
        "available_bytes": 2**33,
        "shared_memory_bytes": 2**33,
        "open_files": 65536,
    },
    "storage": {
        "free_bytes": 10**11,
        "write_megabytes_per_second": 500.0,
        "read_megabytes_per_second": 900.0,
    },
    "shards": {"dataset": "abc", "shards": 2, "verified": "00-000000.tar"},
    "kernels": {"body": "cpp", "span_pool": None, "deepspeed": None},
    "shared folder": {"sees": [0, 1], "of": [0, 1]},
    "clock": {"ahead_seconds": 0.004, "within_seconds": 0.003},
    "ports": {"unreachable": {}, "of": 2},
    "all-reduce": {"ranks": [{"latency_microseconds": 200.0, "megabytes_per_second": 1000.0}]},
}


def node(name="one", resources=None, **changed):
    """A good node but for some values of its findings."""
    findings = {check: Finding(values | changed.get(check.replace(" ", "_"), {})) for check, values in GOOD.items()}
    return Node(name, {"CPU": 2.0} if resources is None else resources, findings)


def failed(check, reason="it broke"):
    good = node("two")
    return replace(good, findings=good.findings | {check: Finding(failure=reason)})


def test_good_nodes_have_no_problems_and_a_cell_in_every_row():
    nodes = [node("one"), node("two")]
    assert diagnose(nodes, NEEDS) == []
    for name, cells in rows(nodes, []):
        assert len(cells) == 2 and "failed" not in cells and not any("!" in cell for cell in cells), name


@pytest.mark.parametrize(
    ("changed", "severity", "words"),
    [
        ({"versions": {"torch": "2.12.0"}}, "error", "torch is 2.12.0, elsewhere 2.13.0"),
        ({"shards": {"dataset": "xyz"}}, "error", "dataset is xyz, elsewhere abc"),
        ({"shared_folder": {"sees": [1]}}, "error", "does not show what one wrote"),
        ({"storage": {"free_bytes": 10**9}}, "error", "1 GB free in run.folder, 4 checkpoints take 4 GB"),
        ({"storage": {"write_megabytes_per_second": 3.0}}, "warning", "written at 3 MB/s"),
        ({"kernels": {"span_pool": "no g++"}}, "warning", "cannot be built, the slower reference would run: no g++"),
        ({"kernels": {"deepspeed": "no ninja: pip install it"}}, "error", "no ninja; pip install it"),
        ({"machine": {"shared_memory_bytes": 2**26}}, "warning", "67.1 MB of /dev/shm"),
        ({"machine": {"open_files": 256}}, "warning", "256 open files"),
        ({"clock": {"ahead_seconds": -7.0}}, "warning", "7.0 s behind"),
        ({"ports": {"unreachable": {0: "10.0.0.1:5: timed out"}}}, "error", "cannot reach 10.0.0.1:5: timed out"),
    ],
)
def test_each_fault_of_a_node_is_one_problem_with_its_name_and_a_cure(changed, severity, words):
    (problem,) = diagnose([node("one"), node("two", **changed), node("three")], NEEDS)
    assert (problem.severity, problem.nodes) == (severity, ("two",))
    assert words in str(problem) and " on two: " in str(problem) and problem.cure


@pytest.mark.parametrize("check", sorted(GOOD))
def test_a_check_that_fails_is_an_error_and_hides_no_other(check):
    other = "clock" if check != "clock" else "ports"
    bad = failed(check)
    late = {"clock": {"ahead_seconds": 60.0}, "ports": {"unreachable": {0: "x: refused"}}}[other]
    bad.findings[other] = Finding(GOOD[other] | late)
    problems = diagnose([node("one"), bad, node("three")], NEEDS)
    assert {problem.check for problem in problems} == {check, other}
    assert any(problem.severity == "error" and "it broke" in str(problem) for problem in problems)
    assert any("failed !" in cells for _, cells in rows([node("one"), bad], problems))


@pytest.mark.parametrize("check", sorted(GOOD))
def test_a_check_that_fails_on_every_node_is_one_problem(check):
    (problem,) = diagnose([replace(failed(check), name=name) for name in ("one", "two")], NEEDS)
    assert (problem.check, problem.nodes, problem.severity) == (check, ("one", "two"), "error")


def test_the_same_problem_of_many_nodes_is_said_once():
    nodes = [node(f"n{i}", machine={"open_files": 256}) for i in range(6)]
    (problem,) = diagnose(nodes, NEEDS)
    assert "on n0, n1, n2, n3 and 2 more" in str(problem)


def test_gpus():
    needs = replace(NEEDS, gpus_per_worker=1)
    with_gpus = {"CPU": 2.0, "GPU": 2.0}
    good = node("one", with_gpus, devices={"gpus": [GPU, GPU], "cuda": "12.8", "usable": 2})
    assert diagnose([good, replace(good, name="two")], needs) == []
    none = node("two", with_gpus)
    assert "no GPU" in str(diagnose([good, none], needs)[0])
    old = node("two", with_gpus, devices={"gpus": [GPU, GPU], "cuda": "13.0", "usable": 0})
    assert "torch can use 0 of 2 GPUs (driver 570.1, torch's CUDA 13.0)" in str(diagnose([good, old], needs)[0])
    broken = [GPU, GPU | {"ecc_errors": "3"}]
    worn = node("two", with_gpus, devices={"gpus": broken, "cuda": "12.8", "usable": 2})
    assert "uncorrected memory errors on GPU [1]" in str(diagnose([good, worn], needs)[0])


def test_room_for_ranks():
    (problem,) = diagnose([node("one", {"CPU": 1.0})], replace(NEEDS, workers=3))
    assert "room for 1 of 3 ranks" in str(problem) and problem.severity == "warning"
    assert diagnose([node("one", {})], NEEDS) == []  # without Ray nobody knows


def test_a_check_that_hangs_ends_at_its_time_limit():
    assert find(threading.Event().wait, 0.2).failure == "no answer within 0 s"
    assert find(lambda: {"a": 1}, 5).values == {"a": 1}
    assert find(lambda: {"a": 1 // 0}, 5).failure == "integer division or modulo by zero"
