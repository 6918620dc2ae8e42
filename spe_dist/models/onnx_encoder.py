"""The layers of a sentence encoder as one ONNX graph, of any kind that `SentenceEncoder` takes.

The graph maps embeddings of pieces, padded to one length, to states. The table of embeddings stays outside: what an
extractor knows of how words are written is added to its rows.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

_INPUTS = ("inputs_embeds", "attention_mask", "token_type_ids")
_STATES = "states"
_OPSET = 17


class OnnxEncoder(nn.Module):
    """What `SentenceEncoder` takes for a Hugging Face encoder, computed by ONNX Runtime on the CPU in fp32.

    Args:
        graph: what `write_graph` wrote.
        config: configuration of the encoder.
        embeddings: its table of pieces, [vocabulary, embedding size].

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
        ValueError: the graph cannot be read.
    """

    backend = "ONNX Runtime"

    def __init__(self, graph: bytes, config: Any, embeddings: Tensor) -> None:
        super().__init__()
        self.graph, self.config = graph, config
        self.embeddings = nn.Embedding.from_pretrained(embeddings)
        self._session = _open(graph)

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of piece embeddings."""
        return self.embeddings

    def forward(
        self,
        *,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> SimpleNamespace:
        """States of the last layer, as `last_hidden_state`, of padded sequences [S, pieces, ...]."""
        if inputs_embeds is None:
            inputs_embeds = self.embeddings(input_ids)
        given = dict(zip(_INPUTS, (inputs_embeds, attention_mask, token_type_ids), strict=True))
        feed = {node.name: given[node.name].numpy() for node in self._session.get_inputs()}
        (states,) = self._session.run([_STATES], feed)
        return SimpleNamespace(last_hidden_state=torch.from_numpy(states))

    def __getstate__(self) -> dict[str, Any]:
        """Sessions cannot be copied: the graph makes a new one."""
        return {**self.__dict__, "_session": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._session = _open(self.graph)


class _Padded(nn.Module):
    """A Hugging Face encoder with the inputs and the output of the graph."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs_embeds: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        segments = {"token_type_ids": token_type_ids} if hasattr(self.model.config, "type_vocab_size") else {}
        return self.model(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **segments).last_hidden_state


def write_graph(folder: Path, path: Path) -> Tensor:
    """The layers of the encoder that lies in a folder as a graph, in fp32; gives its table of embeddings.

    Args:
        folder: with config.json and model.safetensors.
        path: path of the file to write.

    Raises:
        ModuleNotFoundError: onnx is not installed.
    """
    import onnx  # noqa: F401  # torch asks for it late, and not by its name
    from transformers import AutoModel

    from spe_dist.models.hugging_face import quiet_transformers

    with quiet_transformers():
        model = AutoModel.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        ).eval()
    size = model.get_input_embeddings().embedding_dim
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])  # sizes of the example are no sizes of the graph
    example = (torch.randn(2, 5, size), mask, torch.zeros_like(mask))
    axes = {name: {0: "sentences", 1: "pieces"} for name in (*_INPUTS, _STATES)}
    with warnings.catch_warnings():
        # It traces, which needs nothing but onnx; the new exporter needs onnxscript.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Padded(model).eval(),
            example,
            str(path),
            input_names=list(_INPUTS),
            output_names=[_STATES],
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
    return model.get_input_embeddings().weight.detach()


def _open(graph: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # forwards run side by side
    options.log_severity_level = 3  # errors, which are raised
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own are of no common class
        raise ValueError(f"ONNX Runtime cannot read the graph: {error}") from error
