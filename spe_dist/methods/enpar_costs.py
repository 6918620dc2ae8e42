"""What a step of ENPAR costs a rank beside ZeRO (see `costs.py`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.zero_config import Precision
from spe_dist.engine.zero_costs import Transfer, weight_bytes
from spe_dist.methods.costs import RecordSizes, bytes_of_a_piece, bytes_of_a_span, exchanges_of_every_method
from spe_dist.methods.enpar.collate import TERMS
from spe_dist.methods.enpar.config import EnparConfig
from spe_dist.methods.enpar.flops import enpar_flops
from spe_dist.methods.enpar.method import Enpar
from spe_dist.methods.enpar.model import EnparEncoder, EnparModel
from spe_dist.methods.model_flops import Passes
from spe_dist.methods.work import Work
from spe_dist.models.sentence_encoder import new_sentence_encoder

_PIECES_OF_AN_ENTITY = 2.0  # assumed
_ONTONOTES_TYPES = 18  # of the paper's entities, where no dataset says


@dataclass(frozen=True)
class EnparCosts:
    """Of a configuration, the sizes of its sentence encoder and the number of types of entities."""

    config: EnparConfig
    encoder: PretrainedConfig
    entity_types: int
    model: EnparModel

    @classmethod
    def of(cls, config: EnparConfig, encoder: PretrainedConfig, *, entity_types: int = _ONTONOTES_TYPES) -> EnparCosts:
        """With a model that has no weights."""
        with torch.device("meta"):
            return cls(
                config,
                encoder,
                entity_types,
                EnparModel(config, EnparEncoder(config, new_sentence_encoder(encoder)), types=entity_types),
            )

    def flops(self, work: Work) -> dict[str, Passes]:
        """See `Costs`."""
        return enpar_flops(self.config, self.encoder, work, types=self.entity_types)

    def transfers(self, plan: BatchPlan) -> list[Transfer]:
        """See `Costs`: nothing of its own."""
        return exchanges_of_every_method((*TERMS, *Enpar.counted), plan)

    def activation_bytes(self, work: Work, *, precision: Precision) -> int:
        """See `Costs`."""
        config, encoder, wide = self.config, self.encoder, weight_bytes(precision)
        total = work.pieces * bytes_of_a_piece(encoder, wide)
        total += (work.words + work.counts["context_words"]) * wide * encoder.hidden_size
        entities = 2 * work.counts["pairs"] + work.counts["met"]
        total += entities * bytes_of_a_span(config.entity_encoder, wide)
        total += 3 * work.counts["pairs"] * bytes_of_a_span(config.context_encoder, wide)
        joined = 2 * config.entity_encoder.size + 3 * config.context_encoder.size + 3 * config.pair_encoder.size
        total += work.counts["pairs"] * wide * joined
        return total + work.counts["mep"] * 4 * encoder.vocab_size  # log-probabilities in fp32

    def expected_work(self, sizes: RecordSizes, records: int, *, forwards: int) -> Work:
        """See `Costs`; every perturbation and permutation is taken to change its sentence."""
        config = self.config
        hide = config.met.weight > 0 or config.mep.weight > 0
        perturbed = config.acd.perturbed * records if config.acd.weight else 0
        permutations = config.pp.permutations * records if config.pp.weight else 0
        pairs = perturbed + (permutations or records) if perturbed or permutations else 0
        hidden = (config.masking.masked + config.masking.replaced) * sizes.entities * _PIECES_OF_AN_ENTITY
        sequences = pairs + records * hide
        return Work(
            counts={
                "met": int(records * sizes.entities) if config.met.weight else 0,
                "mep": int(records * hidden) if config.mep.weight else 0,
                "acd": perturbed,
                "pp": permutations,
                "pairs": pairs,
                "context_words": int(pairs * sizes.words),
            },
            forwards=forwards,
            pieces=int(sequences * (sizes.pieces + 2)),
            squared_lengths=sizes.squared_lengths(sequences),
            padded_pieces=0,
            words=int(sequences * sizes.words),
        )

    def sequences(self) -> str:
        """See `Costs`."""
        config = self.config
        perturbed = config.acd.perturbed if config.acd.weight else 0
        permuted = config.pp.permutations - 1 if config.pp.weight else 0
        hidden = bool(config.met.weight or config.mep.weight)
        parts = [
            "once as it is" if perturbed or permuted else "",
            f"in up to {perturbed} perturbed copies (ACD)" if perturbed else "",
            f"in up to {permuted} other orders (PP)" if permuted else "",
            "once with hidden entities (MET, MEP)" if hidden else "",
        ]
        return f"each record {', '.join(filter(None, parts))}"

    def assumptions(self, sizes: RecordSizes) -> list[str]:
        """See `Costs`."""
        return [
            f"{sizes.assumptions()} It has {sizes.entities:.1f} entities of {_PIECES_OF_AN_ENTITY:g} pieces; every "
            "perturbation and permutation changes its text."
        ]
