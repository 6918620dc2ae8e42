"""ACD, adversarial context discrimination (ENPAR paper): does a pair of entities stand where it was written?"""

from __future__ import annotations

from torch import Tensor, nn

from spe_dist.models.transform_block import INITIAL_STD


class AdversarialContextDiscrimination(nn.Module):
    """Pair vector → score; the original must score higher than a perturbed copy, by a margin.

    Args:
        pair_size: size of a pair vector.
        margin: margin of the hinge, 1 in the paper.
    """

    def __init__(self, pair_size: int, *, margin: float) -> None:
        super().__init__()
        self.margin = margin
        self.score = nn.Linear(pair_size, 1)
        nn.init.normal_(self.score.weight, std=INITIAL_STD)
        nn.init.zeros_(self.score.bias)

    def forward(self, pairs: Tensor, originals: Tensor, perturbed: Tensor) -> tuple[Tensor, Tensor]:
        """Compare originals with perturbed copies.

        Args:
            pairs: vectors of pairs, [C, pair_size].
            originals: index of the original of each comparison, [N].
            perturbed: index of the perturbed copy, [N].

        Returns:
            max(0, margin - s⁺ + s⁻) of each comparison [N] in fp32, and whether the original scores higher [N] bool.
        """
        scores = self.score(pairs).squeeze(1).float()
        ahead = scores[originals] - scores[perturbed]
        return nn.functional.relu(self.margin - ahead), ahead.detach() > 0
