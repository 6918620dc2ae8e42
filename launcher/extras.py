"""What a command needs beyond the base installation: which extra of the package brings a library that is not there."""

from __future__ import annotations

EXTRAS = {
    "train": ("deepspeed", "ray", "webdataset", "tensorboard", "grpc", "psutil"),
    "serve": ("fastapi", "starlette", "ray", "grpc"),
    "parquet": ("pyarrow",),
    "plots": ("matplotlib",),
    "export": ("onnx", "onnxruntime"),
}  # by the names under which they are imported


def what_is_missing(error: ModuleNotFoundError, command: str) -> str | None:
    """The line for a person whose command lacks a library of an extra; None if the error is of another kind.

    Args:
        error: error of the import.
        command: such as "spe pretrain".
    """
    library = (error.name or "").partition(".")[0]
    for extra in sorted(EXTRAS, key=lambda extra: command != f"spe {extra}"):  # that of the command first
        if library in EXTRAS[extra]:
            return f'{command} needs {library}, which is not installed: pip install "spe_dist[{extra}]"'
    return None
