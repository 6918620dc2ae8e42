"""MET, masked entity typing (ENPAR paper): of which type is an entity, some of which are masked or replaced?"""

from __future__ import annotations

from torch import Tensor, nn

from spe_dist.models.transform_block import INITIAL_STD


class MaskedEntityTyping(nn.Module):
    """Entity vector → logits over the types.

    Args:
        entity_size: size of an entity vector.
        types: how many there are.
    """

    def __init__(self, entity_size: int, types: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(entity_size, types)
        nn.init.normal_(self.classifier.weight, std=INITIAL_STD)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, entities: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        """Score entities.

        Args:
            entities: their vectors, [E, entity_size].
            types: their types, [E].

        Returns:
            Cross-entropy of each entity [E] in fp32, and whether its type was found [E] bool.
        """
        logits = self.classifier(entities).float()
        losses = nn.functional.cross_entropy(logits, types, reduction="none")
        return losses, logits.detach().argmax(dim=1) == types
