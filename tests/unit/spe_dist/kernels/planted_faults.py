"""Faults to plant in the CUDA sources: the emulation, or the look at what nvcc makes of them, must see each."""

import shutil
from dataclasses import dataclass

import pytest

from tests.unit.spe_dist.kernels.emulate import CSRC

FORWARD, BACKWARD, COMMON = "span_pool_forward.cuh", "span_pool_backward.cuh", "span_pool.cuh"


@dataclass(frozen=True)
class Fault:
    """What goes in the place of a text that a file has once.

    Args:
        seen_on_host: results tell, and not only the binary.
        quick: is tried by each run of the tests, and not only by the slow ones: one for each part that finds faults.
    """

    name: str
    file: str
    old: str
    new: str
    seen_on_host: bool = True
    quick: bool = False


FAULTS = (
    Fault("NaN is overwritten", FORWARD, "const bool open = low[n] == low[n];", "const bool open = true;"),
    Fault("the last window is forgotten", FORWARD, "m + 1 < K; ++m) found", "m + 2 < K; ++m) found"),
    Fault(
        "a word past the span is loaded",
        FORWARD,
        "if (word + ahead < words)\n#pragma",
        "if (true)\n#pragma",
        quick=True,
    ),
    Fault("channels past the last one", FORWARD, " || channel >= sizes.channels", ""),
    Fault("the other extreme's place", FORWARD, "lower ? found.low_at[n] : found.high_at[n]", "found.high_at[n]"),
    Fault("the slope of the other extreme", FORWARD, "phi = lower ? low_phi : high_phi", "phi = high_phi"),
    Fault("spans are not checked", FORWARD, "end > sizes.words) __trap();", "end > sizes.words) return;"),
    Fault("packs that do not fit", COMMON, "if (sizes.channels % N != 0) return false;", ""),
    Fault("places always in int16", COMMON, "    store_as<int, N>(to", "    store_as<int16_t, N>(to"),
    Fault(
        "no barrier before the votes are added",
        BACKWARD,
        "counts[warp] = __popc(votes);\n  __syncthreads();",
        "counts[warp] = __popc(votes);",
    ),
    Fault(
        "no barrier before bounds are read",
        BACKWARD,
        "  }\n  __syncthreads();\n  if (threadIdx.x == 0) {\n    bounds",
        "  }\n  if (threadIdx.x == 0) {\n    bounds",
        quick=True,
    ),
    Fault("a barrier that some skip", BACKWARD, "  int touching = 0", "  if (lane > 30) return;\n  int touching = 0"),
    Fault(
        "a chunk that touches by one word",
        BACKWARD,
        "bounds[2 * chunk + 1] > tile;",
        "bounds[2 * chunk + 1] > tile + 1;",
    ),
    Fault("one span more than there is room for", BACKWARD, "touching <= kListed;", "touching <= kListed + 600;"),
    Fault("one word more of a span", BACKWARD, "word >= end) continue;", "word > end) continue;"),
    Fault("one window off", BACKWARD, "+ size - 1 - first_tap;", "+ size - first_tap;", quick=True),
    Fault("words past the last one", BACKWARD, "tile + kTile < words ? tile + kTile : words", "tile + kTile"),
    Fault("every fifth tap is not written", BACKWARD, "first_tap += kTapsAtOnce)", "first_tap += kTapsAtOnce + 1)"),
    Fault(
        "stores that the compiler splits",
        COMMON,
        "__stwb(reinterpret_cast<Unit*>(to + n), unit);",
        "*reinterpret_cast<Unit*>(to + n) = unit;",
        seen_on_host=False,
        quick=True,
    ),
    Fault("one load at a time", FORWARD, "? 2 : 4;  // words whose", "? 1 : 1;  // words whose", seen_on_host=False),
)


def faults(*, seen_on_host):
    """Those that results show, or those that do not, as parameters of a test: slow but for a few."""
    chosen = [fault for fault in FAULTS if fault.seen_on_host == seen_on_host]
    return [pytest.param(fault, marks=[] if fault.quick else pytest.mark.slow) for fault in chosen]


def plant(fault, folder):
    """Copy the sources to a folder, one of them with the fault."""
    shutil.copytree(CSRC, folder, dirs_exist_ok=True)
    text = (CSRC / fault.file).read_text()
    assert text.count(fault.old) == 1, f"{fault.old!r} is there {text.count(fault.old)} times"
    (folder / fault.file).write_text(text.replace(fault.old, fault.new))
