"""The CUDA sources of `span_pool` as a library of the host, and a body that calls it with guarded memory."""

import ctypes
import json
import mmap
import re
import subprocess
from pathlib import Path

import torch

from spe_dist.kernels import bodies

CSRC = Path(bodies.__file__).parent / "csrc"
HEADERS = Path(__file__).parent / "emulation"
# Packs of channels are read as wider words, as a GPU reads them: no aliasing by type.
FLAGS = ["-O1", "-g", "-std=c++17", "-shared", "-fPIC", "-fno-strict-aliasing"]
UNDEFINED = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
ADDRESSES = [*UNDEFINED, "-fsanitize=address"]
OUTPUTS = {
    "span_pool_forward_cuda": 4, "span_pool_backward_cuda": 2,
    "span_gelu_pool_forward_cuda": 3, "span_gelu_pool_backward_cuda": 2,
}  # fmt: skip
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def build_for_host(folder, *, csrc=CSRC, flags=()):
    """Compile the sources against the headers of `emulation/`. Returns the library's path."""
    for source in csrc.glob("*.*"):
        (folder / source.name).write_text(_without_launches(source.read_text()))
    library = folder / "emulated.so"
    source = ["-x", "c++", str(folder / "span_pool.cu")]
    command = ["g++", *FLAGS, *flags, f"-I{HEADERS}", f"-I{folder}", "-o", str(library), *source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return library


def _without_launches(text):
    """`kernel<<<grid, block, memory, stream>>>(arguments);` as a call of `emulation::launch`."""
    launch = re.compile(r"(?P<kernel>\w+(?:<[\w, ]*>)?)<<<(?P<shape>.*?)>>>\((?P<arguments>.*?)\);", re.DOTALL)

    def call(found):
        grid, block, *_ = re.split(r",\s*(?![^()]*\))", found["shape"])
        return f"emulation::launch({grid}, {block}, [&] {{ {found['kernel']}({found['arguments']}); }});"

    text, count = launch.subn(call, text)
    assert count == text.count("emulation::launch(") and "<<<" not in text
    return text


class EmulatedBody(bodies.CudaBody):
    """The CUDA body on the host. Each tensor lies directly before or after memory that must not be touched.

    Args:
        library: of `build_for_host`.
        record: where to keep every call, as `replay.py` reads them.
    """

    def __init__(self, library, record=None):
        super().__init__(library)
        self.traps, self.at_end, self.alignment = ctypes.CDLL(str(library)).emulation_traps, True, 16
        self.record = record

    def _launch(self, function, sizes, *arguments):
        tensors = [one for one in arguments if isinstance(one, torch.Tensor)]
        outputs = tensors[-OUTPUTS[function.__name__] :]
        with Guarded(at_end=self.at_end, alignment=self.alignment) as guarded:
            for output in outputs:
                output.view(torch.uint8).fill_(0xFD)  # what stays so was not written
            inside = [guarded.copy(one) if isinstance(one, torch.Tensor) else one for one in arguments]
            bodies._call(function, sizes, *inside, ctypes.c_void_p(0))
            for at, tensor in zip(inside, arguments, strict=True):
                if any(tensor is output for output in outputs):
                    guarded.read(at, tensor)
        if self.record is not None:
            shape = (sizes.words, sizes.spans, sizes.channels, sizes.kernel_sizes[: sizes.num_sizes])
            values = [_hex(one) if isinstance(one, torch.Tensor) else one for one in arguments]
            self.record.append((function.__name__, shape, values, len(outputs)))


def _hex(tensor):
    return tensor.contiguous().view(torch.uint8).numpy().tobytes().hex() if tensor.numel() else ""


class Guarded:
    """Copies of tensors in pages of their own, between pages that end the process when they are touched."""

    def __init__(self, *, at_end, alignment):
        self.at_end, self.alignment, self._maps = at_end, alignment, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for address, size in self._maps:
            LIBC.munmap(address, size)

    def copy(self, tensor):
        """Address of a copy that begins or ends at a forbidden page, as its alignment allows; none of nothing."""
        page, size = mmap.PAGESIZE, tensor.numel() * tensor.element_size()
        if size == 0:
            return None
        inner = -(-size // page) * page
        everything = inner + 2 * page
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        base = LIBC.mmap(None, everything, mmap.PROT_READ | mmap.PROT_WRITE, private, -1, 0)
        self._maps.append((base, everything))
        for guard in (base, base + page + inner):
            LIBC.mprotect(guard, page, 0)
        step = max(self.alignment, tensor.element_size())
        start = base + page + ((inner - size) // step * step if self.at_end else 0)
        ctypes.memmove(start, tensor.data_ptr(), size)
        return ctypes.c_void_p(start)

    def read(self, address, tensor):
        """Copy back."""
        if address is not None:
            ctypes.memmove(tensor.data_ptr(), address, tensor.numel() * tensor.element_size())


def write_record(record, path):
    path.write_text(json.dumps(record))
