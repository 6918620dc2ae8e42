"""Sentence encoders that were exported for predicting on CPUs, as files beside config.json.

encoder.onnx, embeddings.safetensors   format onnx: the layers as a graph in fp32, for ONNX Runtime; the table of pieces
encoder_int8.safetensors               format int8: layers of 8-bit integers, for torch, and the table of pieces
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from data_shards.errors import UserError
from spe_dist.models.int8_layers import with_int8_layers
from spe_dist.models.onnx_encoder import OnnxEncoder, write_graph
from spe_dist.models.plain_encoder import PlainEncoder, load_plain_encoder

GRAPH, EMBEDDINGS, INT8 = "encoder.onnx", "embeddings.safetensors", "encoder_int8.safetensors"
_CONFIG = "config.json"


def is_exported(folder: Path) -> bool:
    """Whether a model's folder holds an exported encoder in place of the trained one."""
    return any((folder / name).exists() for name in (GRAPH, EMBEDDINGS, INT8))


def load_exported_encoder(folder: Path) -> OnnxEncoder | PlainEncoder | None:
    """The exported encoder of a folder; None if there is none.

    Raises:
        UserError: it is damaged.
        ModuleNotFoundError: onnxruntime is not installed.
    """
    if not is_exported(folder):
        return None
    try:
        config = json.loads((folder / _CONFIG).read_bytes())
        if (folder / INT8).exists():
            encoder = with_int8_layers(PlainEncoder(config))
            weights, expected = load_file(folder / INT8), encoder.state_dict()
            encoder.load_state_dict(weights, assign=True)
            for name, weight in weights.items():  # compiled code reads them
                if weight.dtype != (torch.float32 if expected[name].is_floating_point() else torch.int8):
                    raise ValueError(f"{name} is of type {weight.dtype}")
            return encoder.eval()
        embeddings = load_file(folder / EMBEDDINGS)["weight"]
        return OnnxEncoder((folder / GRAPH).read_bytes(), SimpleNamespace(**config), embeddings)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"its exported encoder cannot be read: {reason}; export it again") from error


def write_onnx_encoder(model: Path, folder: Path) -> None:
    """Write the encoder of a model's folder as a graph.

    Args:
        model: folder of a fine-tuned model.
        folder: to write to; it has the tokenizer already.

    Raises:
        ModuleNotFoundError: onnx is not installed.
    """
    embeddings = write_graph(model, folder / GRAPH)
    save_file({"weight": embeddings}, folder / EMBEDDINGS)
    (folder / _CONFIG).write_bytes((model / _CONFIG).read_bytes())


def write_int8_encoder(model: Path, folder: Path) -> None:
    """Write the encoder of a model's folder with products of 8-bit integers.

    Args:
        model: folder of a fine-tuned model.
        folder: to write to; it has the tokenizer already.
    """
    encoder = load_plain_encoder(model)
    assert encoder is not None  # `check_int8` was asked
    save_file(with_int8_layers(encoder).state_dict(), folder / INT8)
    (folder / _CONFIG).write_bytes((model / _CONFIG).read_bytes())


def check_int8(encoder: object = None) -> None:
    """Look whether this machine computes products of 8-bit integers, and this encoder can be made of them.

    Raises:
        UserError: it cannot; it says why.
    """
    known = torch.cpu.get_capabilities()
    if not (known.get("avx512_vnni") or known.get("avx_vnni")) or not torch.backends.mkldnn.is_available():
        raise UserError(
            "products of 8-bit integers need a processor with VNNI (x86): without it, sums would be cut off; "
            "use --format onnx here"
        )
    if encoder is not None and not isinstance(encoder, PlainEncoder):
        raise UserError("only encoders with BERT's architecture can be exported as int8: use --format onnx")
