"""SPO, the span permutation objective (SPE paper): in which of six orders do a span's words stand?"""

from __future__ import annotations

from torch import Tensor, nn

from spe_dist.methods.spe.permutations import NUM_CLASSES
from spe_dist.models.transform_block import INITIAL_STD, TransformBlock


class SpanPermutationObjective(nn.Module):
    """Span vector → transform block → logits over the permutations.

    Args:
        span_size: size of a span vector.
        dropout: in the block.
    """

    def __init__(self, span_size: int, *, dropout: float) -> None:
        super().__init__()
        self.block = TransformBlock(span_size, span_size, dropout=dropout)
        self.classifier = nn.Linear(span_size, NUM_CLASSES)
        nn.init.normal_(self.classifier.weight, std=INITIAL_STD)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, spans: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Score permuted spans.

        Args:
            spans: their vectors, [Q, span_size].
            classes: their permutations, [Q].

        Returns:
            Cross-entropy of each span [Q] in fp32, and whether its permutation was found [Q] bool.
        """
        logits = self.classifier(self.block(spans)).float()
        losses = nn.functional.cross_entropy(logits, classes, reduction="none")
        return losses, logits.detach().argmax(dim=1) == classes
