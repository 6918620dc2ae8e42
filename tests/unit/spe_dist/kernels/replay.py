"""Recorded calls once more, each tensor allocated by itself: `python replay.py LIBRARY RECORD` under AddressSanitizer.

Without torch and numpy, which would be slow to load there. The outputs must be those recorded, byte by byte.
"""

import ctypes
import json
import sys
from pathlib import Path


class Sizes(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_int64) for name in ("words", "spans", "channels", "num_sizes")),
                ("kernel_sizes", ctypes.POINTER(ctypes.c_int32)))  # fmt: skip


def main(library, record):
    library, libc = ctypes.CDLL(library), ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    calls = json.loads(Path(record).read_text())
    for name, (words, spans, channels, kernel_sizes), arguments, outputs in calls:
        sizes = Sizes(words, spans, channels, len(kernel_sizes), (ctypes.c_int32 * len(kernel_sizes))(*kernel_sizes))
        contents = [bytes.fromhex(one) for one in arguments if isinstance(one, str)]
        tensors = [(libc.malloc(len(one)) if one else None, one) for one in contents]
        for address, content in tensors[:-outputs]:
            ctypes.memmove(address, content, len(content))
        addresses = (ctypes.c_void_p(address) for address, _ in tensors)
        given = [next(addresses) if isinstance(one, str) else one for one in arguments]
        assert getattr(library, name)(ctypes.byref(sizes), *given, ctypes.c_void_p(0)) == 0
        for address, content in tensors[-outputs:]:
            assert not content or ctypes.string_at(address, len(content)) == content, name
        for address, _ in tensors:
            libc.free(address)
    sys.stdout.write(f"{len(calls)} calls\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
