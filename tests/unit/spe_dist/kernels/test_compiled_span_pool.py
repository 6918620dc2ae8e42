"""Compiled bodies of `span_pool` against the reference, and how they are built and chosen."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.errors import UserError
from spe_dist.kernels import compiled
from spe_dist.kernels.bodies import ReferenceBody, Spans
from spe_dist.kernels.span_pool import _span_gelu_pool, _span_pool, span_gelu_pool, span_pool
from spe_dist.kernels.span_pool_reference import span_pool_reference
from tests.unit.spe_dist.kernels.definition import assert_as_defined

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def choice_is_put_back():
    yield
    compiled.choose("auto", CPU)


@st.composite
def cases(draw):
    words = draw(st.integers(1, 40))
    bounds = st.tuples(st.integers(0, words), st.integers(0, words)).map(sorted)
    return (
        words,
        draw(st.lists(bounds, max_size=12)),
        draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)),
        draw(st.sampled_from([1, 3, 8, 130])),
        draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16])),
        draw(st.integers(0, 2**31)),
    )


@settings(max_examples=500, deadline=None)
@given(cases())
def test_values_places_and_gradients_are_those_of_the_definition(case):
    words, spans, kernel_sizes, channels, dtype, seed = case
    taps = torch.randn(words, sum(kernel_sizes) * channels, generator=torch.Generator().manual_seed(seed)).to(dtype)
    starts, ends = torch.tensor(spans, dtype=torch.int64).reshape(-1, 2).unbind(1)
    assert_as_defined(compiled.body_for(CPU), taps, starts, ends, kernel_sizes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_infinities_and_what_is_no_number_come_out_as_in_the_definition(dtype):
    torch.manual_seed(0)
    taps = torch.randn(60, 9 * 5).to(dtype)
    taps[torch.rand(taps.shape) < 0.05] = float("nan")
    taps[torch.rand(taps.shape) < 0.05] = float("inf")
    taps[torch.rand(taps.shape) < 0.05] = float("-inf")
    starts = torch.arange(50)
    ends = starts + 1 + starts % 7
    found = compiled.body_for(CPU).forward(taps, Spans(starts, ends, (2, 3, 4)))
    expected = span_pool_reference(taps, starts, ends, (2, 3, 4))
    assert found[0].isnan().any() and found[0].isfinite().any()
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0, equal_nan=True)


def test_spans_of_512_words_and_bounds_of_any_integer_type():
    taps = torch.randn(600, 9 * 4)
    starts, ends = torch.tensor([0, 88], dtype=torch.int32), torch.tensor([512, 600], dtype=torch.int32)
    found = compiled.body_for(CPU).forward(taps, Spans(starts, ends, (2, 3, 4)))
    expected = span_pool_reference(taps, starts, ends, (2, 3, 4))
    assert all(torch.equal(mine, other) for mine, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("span", [(-1, 2), (3, 2), (2, 6)])
def test_a_span_outside_of_the_words_is_named(span):
    starts, ends = torch.tensor([[0, 5], span]).unbind(1)
    with pytest.raises(ValueError, match=rf"span 1 is \[{span[0]}, {span[1]}\), there are 5 words"):
        compiled.body_for(CPU).forward(torch.randn(5, 3), Spans(starts, ends, (3,)))


def test_more_threads_change_no_bit():
    torch.manual_seed(0)
    taps, starts = torch.randn(300, 9 * 100), torch.randint(0, 290, (200,))
    ends, before = starts + 10, torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found = compiled.body_for(CPU).forward(taps, Spans(starts, ends, (2, 3, 4)))
        extremes = [(found[0], found[2]), (found[1], found[3])]
        grads = compiled.body_for(CPU).backward(extremes, Spans(starts, ends, (2, 3, 4)), 300, torch.float32)
        results.append((*found, grads))
    torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("body", ["cpp", "reference"])
def test_the_operators_pass_opcheck_and_gradcheck_with_either_body(body):
    compiled.choose(body, CPU)
    taps = torch.randn(12, 9 * 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(9, dtype=torch.float64, requires_grad=True)
    spans = torch.tensor([0, 2, 4, 4]), torch.tensor([5, 12, 4, 5])
    torch.library.opcheck(_span_pool, (taps, *spans, [2, 3, 4]))
    torch.library.opcheck(_span_gelu_pool, (taps, bias, *spans, [2, 3, 4], True))
    assert torch.autograd.gradcheck(lambda t: span_pool(t, *spans, kernel_sizes=(2, 3, 4)), taps)
    assert torch.autograd.gradcheck(lambda *t: span_gelu_pool(*t, *spans, kernel_sizes=(2, 3, 4)), (taps, bias))


def test_torch_compile_finds_no_graph_break():
    def pooled(taps, bias, starts, ends):
        lowest, highest = span_pool(taps * 2, starts, ends, kernel_sizes=(2, 3))
        return (lowest + highest).sum() + span_gelu_pool(taps, bias, starts, ends, kernel_sizes=(2, 3)).sum()

    arguments = (torch.randn(9, 5 * 4), torch.randn(8), torch.tensor([0, 3]), torch.tensor([4, 9]))
    explained = torch._dynamo.explain(pooled)(*arguments)
    assert explained.graph_break_count == 0
    assert torch.equal(torch.compile(pooled, backend="aot_eager", fullgraph=True)(*arguments), pooled(*arguments))


_ASK = """
import logging, sys, torch
logging.basicConfig(format="%(message)s")
from spe_dist.kernels import compiled
compiled.choose(sys.argv[1], torch.device("cpu"))
print(compiled.body_for(torch.device("cpu")))
print(compiled.body_for(torch.device("cpu")))
"""


def ask(body, folder, **environment):
    environment = os.environ | {"XDG_CACHE_HOME": str(folder)} | environment
    return subprocess.run([sys.executable, "-c", _ASK, body], env=environment, capture_output=True, text=True)


def test_without_a_compiler_the_reference_runs_and_says_so_once(tmp_path):
    done = ask("auto", tmp_path, CXX="no-such-compiler")
    assert done.stdout.count("ReferenceBody") == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "span_pool and int8 exports compute with PyTorch alone" in done.stderr and "no-such-compiler" in done.stderr


def test_a_body_that_was_asked_for_and_cannot_be_had_is_an_error(tmp_path):
    done = ask("cpp", tmp_path, CXX="false")
    assert "UserError: kernels.span_pool is cpp, but it cannot be built" in done.stderr
    with pytest.raises(UserError, match=r"kernels\.span_pool is cuda, but this run computes on cpu: choose auto"):
        compiled.choose("cuda", CPU)


def test_it_is_built_once_per_machine(tmp_path):
    assert "CppBody" in ask("cpp", tmp_path).stdout
    (library,) = (tmp_path / "spe_dist" / "kernels").glob("*.so")
    built = library.stat().st_mtime_ns
    assert "CppBody" in ask("auto", tmp_path, CXX="no-such-compiler").stdout  # found, not built
    assert library.stat().st_mtime_ns == built


def test_a_build_for_this_processor_is_preferred_to_one_made_ahead_for_any(tmp_path, monkeypatch):
    compiler = tmp_path / "compiler"
    compiler.write_text(_RECORDS_ITS_ARGUMENTS)
    compiler.chmod(0o755)
    monkeypatch.setattr(compiled, "PREBUILT", tmp_path / "prebuilt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(compiler))
    ahead = compiled.build("cpp", folder=compiled.PREBUILT)
    here = compiled.build("cpp")
    assert "-march=native" in here.read_text() and "-march=native" not in ahead.read_text()
    here.unlink()
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert compiled.build("cpp") == ahead


def test_the_reference_can_be_asked_for():
    compiled.choose("reference", CPU)
    assert isinstance(compiled.body_for(CPU), ReferenceBody)


@pytest.mark.parametrize(
    ("wanted", "known", "machine_code", "ptx"),
    [
        pytest.param((80, 90, 100), (75, 80, 90, 100, 120), ["sm_80", "sm_90", "sm_100"], "compute_100", id="all"),
        pytest.param((80, 90, 100), (75, 80, 90), ["sm_80", "sm_90"], "compute_90", id="an older nvcc"),
        pytest.param((90,), (75, 80, 90, 100), ["sm_90"], "compute_90", id="one GPU"),
        pytest.param((120,), (75, 80, 90), [], "compute_90", id="a GPU younger than nvcc"),
    ],
)
def test_nvcc_is_asked_for_what_it_knows(wanted, known, machine_code, ptx):
    codes = [argument.rpartition("code=")[2] for argument in compiled.gpu_targets(wanted, known)]
    assert codes == [*machine_code, ptx]


def test_a_gpu_older_than_all_that_nvcc_knows_has_no_compiled_body():
    with pytest.raises(OSError, match="nvcc is too new for compute capability 70"):
        compiled.gpu_targets((70,), (75, 80))


def test_an_nvcc_that_lacks_the_newest_generation_is_not_asked_for_it(tmp_path, monkeypatch):
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text(_OLD_NVCC)
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{nvcc.parent}{os.pathsep}{os.environ['PATH']}")
    asked = compiled.build("cuda", folder=tmp_path).read_text()
    assert "code=sm_80" in asked and "code=sm_90" in asked and "code=compute_90" in asked


_RECORDS_ITS_ARGUMENTS = """#!/bin/sh
all="$*"
while [ "$1" != -o ]; do shift; done
echo "$all" > "$2"
"""
_OLD_NVCC = f"""#!/bin/sh
case "$*" in
    --list-gpu-arch) printf 'compute_75\\ncompute_80\\ncompute_90\\n'; exit 0;;
    *compute_100*) echo "nvcc fatal: Unsupported gpu architecture 'compute_100'" >&2; exit 1;;
esac
{_RECORDS_ITS_ARGUMENTS}"""
