"""The shipped CUDA sources on the host: blocks and threads are emulated, memory is guarded, faults are planted.

What this cannot see is the hardware: time, memory that is not coherent, and what the GPU's compiler makes of the source
(test_cuda_binary.py looks at that). A vote of a warp is emulated as one of the block, so a barrier that is missing
beside a vote is not seen either: compute-sanitizer's racecheck in `make gpu` is for that.
"""

import faulthandler
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spe_dist.kernels import bodies
from tests.unit.spe_dist.kernels.definition import assert_as_defined, random_case
from tests.unit.spe_dist.kernels.emulate import ADDRESSES, CSRC, EmulatedBody, build_for_host, write_record
from tests.unit.spe_dist.kernels.planted_faults import FAULTS, faults, plant

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="needs g++, to compile the CUDA source for the host"
)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build_for_host(tmp_path_factory.mktemp("emulated"))


def in_child(function, *arguments):
    """Exit status of a call in a process of its own, which memory that must not be touched would end."""

    def call():
        faulthandler.disable()  # where it must fail, nobody reads the stack
        function(*arguments)

    process = multiprocessing.get_context("fork").Process(target=call)
    process.start()
    process.join(300)
    process.kill()  # what waits for a barrier for ever
    process.join()
    return process.exitcode


def check_cases(library, seeds, record=None):
    """Random cases against the definition; windows in int16 or int32, tensors at either end of their memory."""
    torch.set_num_threads(1)
    body = EmulatedBody(library, record=[] if record else None)
    for seed in seeds:
        places = torch.int16 if seed % 5 else torch.int32
        bodies.place_dtype = lambda *_, places=places: places  # as for a GPU
        body.at_end, body.alignment = seed % 2 == 1, 16 if seed % 3 else 1
        assert_as_defined(body, *random_case(seed, most_words=120, most_spans=100))
    assert body.traps() == 0
    if record:
        write_record(body.record, record)


def check_many_spans(library):
    """More on a tile than it lists, and more chunks than a block has threads."""
    torch.set_num_threads(1)
    body = EmulatedBody(library)
    generator = torch.Generator().manual_seed(0)
    crowd = torch.randint(0, 31, (1500, 2), generator=generator).sort(dim=1).values
    far = torch.zeros(66_000, 2, dtype=torch.int64)
    far[:100], far[-100:] = crowd[:100], crowd[100:200]
    for spans in (crowd, far):
        taps = torch.randn(30, 2 * 4, generator=generator)
        assert_as_defined(body, taps, spans[:, 0].contiguous(), spans[:, 1].contiguous(), [2])


def check_a_bad_span(library):
    body = EmulatedBody(library)
    body.forward(torch.randn(5, 4), bodies.Spans(torch.tensor([0, 2]), torch.tensor([5, 6]), [1]))
    assert body.traps() == 1  # the thread of the second span that has all four channels


def test_it_is_as_defined_and_touches_no_other_memory(library):
    assert in_child(check_cases, library, range(144)) == 0


def test_it_is_as_defined_with_any_number_of_spans(library):
    assert in_child(check_many_spans, library) == 0


def test_a_span_that_is_not_among_the_words_stops_the_kernel(library):
    assert in_child(check_a_bad_span, library) == 0


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_can_be_planted(fault, tmp_path):
    plant(fault, tmp_path)
    changed = [path.name for path in tmp_path.iterdir() if path.read_bytes() != (CSRC / path.name).read_bytes()]
    assert changed == [fault.file]


@pytest.mark.parametrize("fault", faults(seen_on_host=True), ids=lambda fault: fault.name)
def test_planted_faults_are_seen(fault, tmp_path):
    (tmp_path / "csrc").mkdir()
    plant(fault, tmp_path / "csrc")
    library = build_for_host(tmp_path, csrc=tmp_path / "csrc", flags=["-O0"])  # built once, run until it fails
    checks = ((check_cases, range(60)), (check_many_spans,), (check_a_bad_span,))
    assert any(in_child(check, library, *arguments) for check, *arguments in checks)


@pytest.mark.slow
def test_many_more_cases(library):
    assert in_child(check_cases, library, range(1000, 1600)) == 0


@pytest.mark.parametrize(("cases", "level"), [(6, "-O0"), pytest.param(18, "-O1", marks=pytest.mark.slow)])
def test_address_and_undefined_behaviour_sanitizers_find_nothing(library, tmp_path, cases, level):
    record = tmp_path / "calls"
    assert in_child(check_cases, library, range(cases), record) == 0
    (tmp_path / "sanitized").mkdir()
    sanitized = build_for_host(tmp_path / "sanitized", flags=[*ADDRESSES, level])
    runtime = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    environment = os.environ | {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"}
    replay = [sys.executable, str(Path(__file__).with_name("replay.py")), str(sanitized), str(record)]
    done = subprocess.run(replay, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[0]) > 5 * cases
