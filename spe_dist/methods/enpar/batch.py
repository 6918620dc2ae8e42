"""One forward of ENPAR (see `collate.py` for how it is made; legend of shapes: batches/batch.py)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spe_dist.batches.batch import Batch


@dataclass(frozen=True, kw_only=True)
class EntityPairBatch(Batch):
    """C unmasked copies with a pair each, then R masked ones."""

    word_spans: Tensor  # [C, 5, 2] the five spans around the pair of each copy, as packed words, half-open
    unmasked_words: int  # words of the unmasked copies, which come first; on the host
    acd_originals: Tensor  # [N] which unmasked copy is the original
    acd_perturbed: Tensor  # [N] and which is one that a perturbation made of it
    pp_copies: Tensor  # [Q] unmasked copies whose permutation is to be found
    pp_classes: Tensor  # [Q] which permutation, 0…119
    met_spans: Tensor  # [E, 2] entities of the masked copies, as packed words
    met_types: Tensor  # [E]
    met_hidden: Tensor  # [E] bool: masked or replaced
    mep_pieces: Tensor  # [T] packed index of each piece of the entities masked or replaced
    mep_targets: Tensor  # [T] id of the piece that was there
