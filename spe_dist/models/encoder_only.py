"""What methods train that have no parts above the sentence encoder."""

from __future__ import annotations

from torch import nn

from spe_dist.models.sentence_encoder import SentenceEncoder


class EncoderOnly(nn.Module):
    """The sentence encoder, under the name that exports look for it by.

    Args:
        sentence_encoder: sentence encoder of the run.
    """

    def __init__(self, sentence_encoder: SentenceEncoder) -> None:
        super().__init__()
        self.sentence_encoder = sentence_encoder
