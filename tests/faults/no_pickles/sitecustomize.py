"""Imported by every Python that starts with this folder in PYTHONPATH: nothing that was read from a file is unpickled.

Ray, multiprocessing and torch.distributed send pickles from process to process, which is what they are made of. So:

- a class or function that a pickle names is looked up only for them: `pickle.find_class`, the interpreter's own audit
  event, comes from every unpickler, also those in C; whose it is, the first frame outside of pickle itself says;
- a pickle is never read from a regular file, whoever does it: `pickle.load` and `pickle.Unpickler` look at their file;
- `torch.load` and `numpy.load(allow_pickle=True)` are not called at all.

What is refused is also appended to the file that NO_PICKLES names, as somebody may catch the exception.
"""

import importlib.util
import io
import os
import pickle
import stat
import sys

_BETWEEN_PROCESSES = ("ray.", "multiprocessing.", "concurrent.futures.", "torch.multiprocessing.", "torch.distributed.")
_UNPICKLERS = ("pickle", "_pickle", "cloudpickle", "ray.cloudpickle", __name__)


class PickleRefused(RuntimeError):
    pass


def _refuse(what):
    frames, frame = [], sys._getframe(1)
    while frame is not None and len(frames) < 12:
        frames.append(f"{frame.f_globals.get('__name__')}:{frame.f_lineno}")
        frame = frame.f_back
    with open(os.environ["NO_PICKLES"], "a") as file:
        file.write(f"{what}: {' < '.join(frames)}\n")
    raise PickleRefused(what)


def _whose():
    """The module that unpickles."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not any(name == unpickler or name.startswith(f"{unpickler}.") for unpickler in _UNPICKLERS):
            return name
        frame = frame.f_back
    return "nobody"


def _audit(event, arguments):
    if event == "pickle.find_class":
        name = _whose()
        if not f"{name}.".startswith(_BETWEEN_PROCESSES):
            _refuse(f"{name} unpickles {arguments[0]}.{arguments[1]}")


def _check_source(file):
    try:
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (AttributeError, OSError, io.UnsupportedOperation):  # memory
        return
    if regular:
        _refuse(f"a pickle in the file {getattr(file, 'name', file)}")


class Unpickler(pickle.Unpickler):
    def __init__(self, file, **more):
        _check_source(file)
        super().__init__(file, **more)


def _load(file, **more):
    _check_source(file)
    return _pickle_load(file, **more)


class _AfterImport:
    """Changes torch and numpy as soon as they are imported."""

    def __init__(self):
        self._changes = {"torch": _change_torch, "numpy": _change_numpy}

    def find_spec(self, name, path=None, target=None):
        change = self._changes.pop(name, None)
        if change is None:
            return None
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module
        return spec


def _change_torch(torch):
    torch.load = torch.serialization.load = lambda *_, **__: _refuse("torch.load")


def _change_numpy(numpy):
    load = numpy.load

    def without_pickles(*arguments, allow_pickle=False, **more):
        return load(*arguments, **more) if not allow_pickle else _refuse("numpy.load(allow_pickle=True)")

    numpy.load = without_pickles


if "NO_PICKLES" in os.environ:
    _pickle_load = pickle.load
    pickle.load, pickle.Unpickler = _load, Unpickler
    sys.meta_path.insert(0, _AfterImport())
    sys.addaudithook(_audit)
