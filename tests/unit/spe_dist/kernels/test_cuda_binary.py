"""What nvcc makes of the CUDA sources for a GPU that need not be there: registers, stack, width of loads and stores."""

import importlib.util
import os
import re
import shutil
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest

from spe_dist.kernels import compiled
from tests.unit.spe_dist.kernels.emulate import CSRC
from tests.unit.spe_dist.kernels.planted_faults import faults, plant

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")

# Of a thread. 128 let 16 warps of a multiprocessor run at a time, each with hundreds of bytes a thread on their way.
MOST_REGISTERS = {"forward": 128, "backward": 104, "bound_chunks": 32}
BF16, FLOAT = "13__nv_bfloat16", "f"
# Template arguments → (bits of the loads of taps or gradients, bits of the stores of values or gradients).
WIDTHS = {
    f"forwardI{BF16}Li8E": (128, 128),
    f"forwardI{BF16}Li4E": (64, 128),
    f"forwardI{FLOAT}Li4E": (128, 128),
    f"backwardI{BF16}S1_Li8ELi1E": (128, 128),
    f"backwardI{BF16}S1_Li4ELi1E": (64, 64),
    f"backwardI{FLOAT}{BF16}Li4ELi2E": (128, 64),
    f"backwardI{FLOAT}fLi4ELi2E": (128, 128),
}


@pytest.fixture(scope="module")
def hopper(tmp_path_factory):
    return compile_for(90, CSRC, tmp_path_factory.mktemp("hopper"))


def compile_for(generation, csrc, folder):
    """The machine code, and what ptxas says of each kernel in it."""
    cubin = folder / "span_pool.cubin"
    command = ["nvcc", "-O3", "-std=c++17", f"-arch=sm_{generation}", "-cubin", "-Xptxas", "-v", "-o", str(cubin)]
    done = subprocess.run([*command, str(csrc / "span_pool.cu")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return cubin, done.stdout + done.stderr


def cuobjdump():
    """Of the CUDA toolkit, of the extra `test`, or of triton, which brings it along."""
    triton = importlib.util.find_spec("triton")
    places = [Path(triton.origin).parent / "backends" / "nvidia" / "bin"] if triton and triton.origin else []
    with suppress(metadata.PackageNotFoundError):
        files = metadata.files("nvidia-cuda-cuobjdump") or ()
        places += [Path(file.locate()).parent for file in files if file.name == "cuobjdump"]
    path = os.pathsep.join([os.environ["PATH"], *map(str, places)])
    return shutil.which("cuobjdump", path=path)


def instructions(cubin, tool):
    """Of each kernel: its instructions in their order, without operands."""
    environment = os.environ | {"PATH": f"{Path(tool).parent}{os.pathsep}{os.environ['PATH']}"}
    text = subprocess.run([tool, "-sass", cubin], check=True, capture_output=True, text=True, env=environment).stdout
    kernels = {}
    for part in text.split("Function : ")[1:]:
        found = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", part, re.MULTILINE)
        kernels[part.split()[0]] = found
    return kernels


def problems_of(log):
    """What ptxas says that it must not."""
    said = re.findall(r"entry function '(\w+)'.*?(\d+) bytes stack.*?Used (\d+) registers", log, re.DOTALL)
    for name, stack, registers in said:
        (kind,) = (kind for kind in ("bound_chunks", "backward", "forward") if kind in name)
        if int(stack) or int(registers) > MOST_REGISTERS[kind]:
            yield f"{name}: {stack} bytes of stack, {registers} registers"
    if len(said) < 20:
        yield f"only {len(said)} kernels"


def narrow_accesses(kernels):
    """Kernels that load or store less at a time than they should, or wait for each load."""
    for template, (load, store) in WIDTHS.items():
        (found,) = (listed for name, listed in kernels.items() if template in name)
        if not any(one.startswith("LDG") and f".{load}" in one for one in found):
            yield f"{template} loads no {load} bits"
        if not any(one.startswith("STG") and f".{store}" in one for one in found):
            yield f"{template} stores no {store} bits"
        if narrow := [one for one in found if one.startswith("STG") and not re.search(r"\.(64|128)\b", one)]:
            yield f"{template} stores {narrow}"
        if local := [one for one in found if one.startswith(("LDL", "STL"))]:
            yield f"{template} uses local memory: {local}"
    (forward,) = (listed for name, listed in kernels.items() if f"forwardI{BF16}Li4E" in name)
    loads = [one if one.startswith(("LDG", "FADD")) else "" for one in forward]
    together = max(run.count("LDG") for run in "".join(loads).split("FADD"))
    if together < 12:
        yield f"only {together} loads before the first addition"


def test_no_kernel_has_a_stack_or_too_many_registers(hopper):
    assert not list(problems_of(hopper[1]))


@pytest.mark.parametrize("generation", [one for one in compiled._GENERATIONS if one != 90])
def test_nor_has_one_of_another_generation(generation, tmp_path):
    assert not list(problems_of(compile_for(generation, CSRC, tmp_path)[1]))


@pytest.mark.skipif(cuobjdump() is None, reason="needs cuobjdump")
def test_loads_and_stores_are_wide_and_several_loads_are_on_their_way(hopper):
    assert not list(narrow_accesses(instructions(hopper[0], cuobjdump())))


@pytest.mark.skipif(cuobjdump() is None, reason="needs cuobjdump")
@pytest.mark.parametrize("fault", faults(seen_on_host=False), ids=lambda fault: fault.name)
def test_planted_faults_are_seen(fault, tmp_path):
    plant(fault, tmp_path)
    cubin, log = compile_for(90, tmp_path, tmp_path)
    assert [*problems_of(log), *narrow_accesses(instructions(cubin, cuobjdump()))]


@pytest.mark.slow
def test_the_source_compiles_for_every_generation(tmp_path):
    library = compiled.build("cuda", folder=tmp_path)
    assert library.stat().st_size > 10_000
