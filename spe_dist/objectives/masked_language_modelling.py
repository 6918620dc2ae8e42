"""Masked language modelling, with BERT's own head: recover hidden pieces from their states."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM

from spe_dist.models.hugging_face import quiet_transformers
from spe_dist.models.transform_block import TransformBlock
from spe_dist.objectives.classifier import classify

_HEADS = ("cls.predictions", "lm_head", "head.", "decoder.bias")  # weights begin so; the last two: ModernBERT's
_logger = logging.getLogger(__name__)


class MaskedLanguageModelling(nn.Module):
    """State → transform block → logits over the vocabulary, decoded by the encoder's own word embeddings.

    Args:
        hidden_size: size of the states, H.
        word_embeddings: the encoder's table [vocabulary, embedding size], shared with the decoder.
        dropout: in the block.
    """

    def __init__(self, hidden_size: int, word_embeddings: nn.Embedding, *, dropout: float) -> None:
        super().__init__()
        vocab_size, embedding_size = word_embeddings.weight.shape
        self.block = TransformBlock(hidden_size, embedding_size, dropout=dropout)
        self.decoder = nn.Linear(embedding_size, vocab_size)
        nn.init.zeros_(self.decoder.bias)
        self.decoder.weight = word_embeddings.weight

    def start_from(self, name_or_path: str | None) -> None:
        """Take the head of a Hugging Face checkpoint of BERT's, RoBERTa's or ModernBERT's kind, else stay new."""
        if name_or_path and self._load(name_or_path):
            _logger.info("loaded the head of masked language modelling from %s", name_or_path)
        elif name_or_path:
            _logger.warning("%s has no head of masked language modelling: a new one is trained", name_or_path)

    def _load(self, name_or_path: str) -> bool:
        with quiet_transformers():
            model, info = AutoModelForMaskedLM.from_pretrained(
                name_or_path,
                dtype=torch.float32,
                output_loading_info=True,
                use_safetensors=True,  # no pickles
                trust_remote_code=False,
            )
        if hasattr(model, "lm_head"):  # RoBERTa
            linear, norm, bias = model.lm_head.dense, model.lm_head.layer_norm, model.lm_head.bias
        elif model.config.model_type == "modernbert":
            if model.config.classifier_activation != "gelu":
                return False
            linear, norm, bias = model.head.dense, model.head.norm, model.decoder.bias
        elif not hasattr(model, "cls"):  # ELECTRA's generator has another head
            return False
        else:
            head = model.cls.predictions
            linear, norm, bias = head.transform.dense, head.transform.LayerNorm, head.bias
        if any(name.startswith(_HEADS) for name in info["missing_keys"]):
            return False
        self.block.norm.eps = norm.eps
        with torch.no_grad():
            for ours, theirs in ((self.block.linear, linear), (self.block.norm, norm)):
                ours.weight.copy_(theirs.weight)
                ours.bias.zero_() if theirs.bias is None else ours.bias.copy_(theirs.bias)
            if bias is not None:
                self.decoder.bias[: len(bias)] = bias  # markers, behind the vocabulary, have none there
        return True

    def forward(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Score the states of hidden pieces [T, H] against the pieces that were there [T]; see `classify`."""
        return classify(self.decoder(self.block(states)), targets)
