"""ENPAR (Wang et al., EACL 2021), readable beside the paper.

    encoders      sentence encoder, entity encoder and context encoder (CNNs), entity pair encoder     `EnparEncoder`
    entities      MET, masked entity typing                masked_entity_typing.py
                  MEP, masked entity prediction            masked_entity_prediction.py
    entity pairs  ACD, adversarial context discrimination  adversarial_context_discrimination.py
                  PP, permutation prediction               permutation_prediction.py
    together      their weighted sum                       `Enpar.term_weights`

An objective of weight 0 costs nothing: copies of sentences that it alone needs are not encoded, its parts not built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from data_shards.errors import UserError
from data_shards.reader import ShardReader
from spe_dist.batches.batch import EntityPairBatch
from spe_dist.batches.packing import SpecialPieces
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.world import World
from spe_dist.engine.zero_footprint import Transfer
from spe_dist.methods.about import AboutRun, Objective
from spe_dist.methods.enpar.adversarial_context_discrimination import AdversarialContextDiscrimination
from spe_dist.methods.enpar.collate import TERMS, EntityPairCollate
from spe_dist.methods.enpar.config import EnparConfig
from spe_dist.methods.enpar.flops import enpar_flops
from spe_dist.methods.enpar.masked_entity_prediction import MaskedEntityPrediction
from spe_dist.methods.enpar.masked_entity_typing import MaskedEntityTyping
from spe_dist.methods.enpar.permutation_prediction import PermutationPrediction
from spe_dist.methods.measures import Measures
from spe_dist.methods.spe.config import SpanEncoderConfig
from spe_dist.methods.spe.spans import FIRST, LEFT, MIDDLE, RIGHT, SECOND
from spe_dist.methods.work import Work
from spe_dist.models.entity_pair_encoder import EntityPairEncoder
from spe_dist.models.sentence_encoder import (
    SentenceEncoder,
    build_sentence_encoder,
    new_sentence_encoder,
    resolve_encoder_config,
)
from spe_dist.models.sizes import EntityPairEncoderSizes
from spe_dist.models.span_encoder import SpanEncoder

if TYPE_CHECKING:  # DeepSpeed takes seconds to import; showing and exporting need none of it
    from spe_dist.engine.deepspeed_engine import Engine

MEASURES = (
    "met_found",
    "met_hidden",
    "met_hidden_found",
    "mep_found",
    "acd_found",
    "pp_found",
    "pp_moved",
    "pp_moved_found",
)
_ENTITIES, _CONTEXTS = [FIRST, SECOND], [LEFT, MIDDLE, RIGHT]


class EnparEncoder(nn.Module):
    """Sentence encoder, entity encoder, context encoder and entity pair encoder.

    The entity encoder has the name that SPE's span encoder has: export and fine-tuning take either by it.

    Args:
        config: the run.
        sentence_encoder: its sentence encoder.
    """

    def __init__(self, config: EnparConfig, sentence_encoder: SentenceEncoder) -> None:
        super().__init__()
        hidden, dropout = sentence_encoder.hidden_size, config.heads_dropout
        self.sentence_encoder = sentence_encoder
        self.span_encoder = self.context_encoder = self.pair_encoder = None
        pairs = config.acd.weight > 0 or config.pp.weight > 0
        if pairs or config.met.weight > 0:
            self.span_encoder = _span_encoder(hidden, config.entity_encoder, dropout)
        if pairs:
            self.context_encoder = _span_encoder(hidden, config.context_encoder, dropout)
            self.pair_encoder = EntityPairEncoder(
                config.entity_encoder.size, config.context_encoder.size, config.pair_encoder.size, dropout=dropout
            )

    def encode(self, batch: EntityPairBatch) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """States of pieces [P, H]; vectors of the masked copies' entities [E, entity size]; of pairs [C, pair size]."""
        states = self.sentence_encoder(batch.packed)
        if self.span_encoder is None:
            return states, None, None
        words = states[batch.word_pieces]
        of_pairs = batch.word_spans[:, _ENTITIES]
        starts, ends = torch.cat([of_pairs.flatten(0, 1), batch.met_spans]).unbind(1)
        vectors = self.span_encoder(words, starts, ends)
        paired, entities = vectors.split([2 * len(of_pairs), len(batch.met_spans)])
        if self.context_encoder is None or self.pair_encoder is None:
            return states, entities, None
        around = batch.word_spans[:, _CONTEXTS]
        starts, ends = around.unbind(2)
        contexts = self.context_encoder(words[: batch.unmasked_words], starts.flatten(), ends.flatten())
        pairs = self.pair_encoder(paired.unflatten(0, (-1, 2)), contexts.unflatten(0, (-1, 3)), empty=starts == ends)
        return states, entities, pairs


class EnparModel(nn.Module):
    """Everything that is trained: the encoder and the heads of the four objectives.

    Args:
        config: the run.
        encoder: what the heads stand on.
        types: of entities, how many.
    """

    def __init__(self, config: EnparConfig, encoder: EnparEncoder, *, types: int) -> None:
        super().__init__()
        _check_objectives(config)
        self.encoder = encoder
        sentences = encoder.sentence_encoder
        self.met = self.mep = self.acd = self.pp = None
        if config.met.weight > 0:
            self.met = MaskedEntityTyping(config.entity_encoder.size, types)
        if config.mep.weight > 0:
            self.mep = MaskedEntityPrediction(sentences.hidden_size, sentences.word_embeddings)
        if config.acd.weight > 0:
            self.acd = AdversarialContextDiscrimination(config.pair_encoder.size, margin=config.acd.margin)
        if config.pp.weight > 0:
            self.pp = PermutationPrediction(config.pair_encoder.size)

    def bytes_beside(self, config: EnparConfig) -> dict[str, int]:
        """Memory of a rank beside the trained weights: none."""
        return {}

    def transfers(self, config: EnparConfig, plan: BatchPlan) -> list[Transfer]:
        """What ranks exchange in a step beside gradients: nothing."""
        return []

    def forward(self, batch: EntityPairBatch) -> tuple[Tensor, Tensor]:
        """Losses and measures of a batch, as sums over its items.

        Args:
            batch: the forward's records.

        Returns:
            losses [4], one for each of `TERMS`; measures [8], of `MEASURES`, without gradient.
        """
        states, entities, pairs = self.encoder.encode(batch)
        none = torch.zeros(0, device=states.device)
        losses = dict.fromkeys(TERMS, none)
        found = dict.fromkeys(TERMS, none.bool())
        if self.met is not None:
            losses["met"], found["met"] = self.met(entities, batch.met_types)
        if self.mep is not None:
            losses["mep"], found["mep"] = self.mep(states[batch.mep_pieces], batch.mep_targets)
        if self.acd is not None:
            losses["acd"], found["acd"] = self.acd(pairs, batch.acd_originals, batch.acd_perturbed)
        if self.pp is not None:
            assert pairs is not None
            losses["pp"], found["pp"] = self.pp(pairs[batch.pp_copies], batch.pp_classes)
        hidden = batch.met_hidden[: len(found["met"])]  # none without MET
        moved = batch.pp_classes[: len(found["pp"])] != 0
        met, pp = [found["met"], hidden, hidden & found["met"]], [found["pp"], moved, moved & found["pp"]]
        measures = [*met, found["mep"], found["acd"], *pp]
        return (
            torch.stack([losses[term].sum() for term in TERMS]),
            torch.stack([measure.sum() for measure in measures]).float(),
        )


def new_enpar_model(config: EnparConfig, hf_config: PretrainedConfig, *, types: int) -> EnparModel:
    """The model of a run with new weights, its sentence encoder of the given sizes."""
    return EnparModel(config, EnparEncoder(config, new_sentence_encoder(hf_config)), types=types)


class Enpar:
    """One run's ENPAR: its batches and its model.

    Args:
        config: the run.
        reader: of its dataset.
        device: where it trains.
    """

    terms: Sequence[str] = TERMS
    measures: Sequence[str] = MEASURES
    step_measures: Sequence[str] = ()
    negatives = 0

    def __init__(self, config: EnparConfig, reader: ShardReader, *, device: torch.device) -> None:
        manifest = reader.manifest
        self.collate = build_collate(config, reader)
        self._types = len(manifest.entity_types)
        hf_config = resolve_encoder_config(
            config.encoder, vocab_size=manifest.tokenizer.vocab_size, max_pieces=manifest.max_pieces
        )
        self.encoder_json = hf_config.to_json_string()
        self._config, self._encoder_config = config, hf_config
        sentences = build_sentence_encoder(config.encoder, config.compute, hf_config)
        self.model = EnparModel(config, EnparEncoder(config, sentences), types=self._types)
        self.term_weights: Sequence[float] = tuple(
            section.weight for section in (config.met, config.mep, config.acd, config.pp)
        )
        if config.compute.compile:
            sentences.compile_layers()

    def forward(self, engine: Engine, batch: EntityPairBatch) -> tuple[Tensor, Tensor]:
        """Losses [4] and measures [8] of a batch, as `EnparModel.forward`."""
        return engine.forward(batch)

    def rehearse(self, engine: Engine, batch: EntityPairBatch) -> Tensor:
        """Losses [4] of a forward that is no part of a step."""
        return engine.forward(batch)[0]

    def send_keys(self, world: World, plan: BatchPlan) -> None:
        """Ranks exchange nothing but gradients."""

    def after_step(self, engine: Engine) -> Tensor:
        """Nothing follows the optimizer step."""
        return torch.zeros(0)

    def model_flops(self, work: Work) -> int:
        """FLOPs of some steps on all ranks."""
        return enpar_flops(self._config, self._encoder_config, work, types=self._types)

    def state(self) -> dict[str, Tensor]:
        """A checkpoint holds nothing beyond the engine's."""
        return {}

    def report(self, sums: Measures) -> dict[str, float | str]:
        """What to log of an interval's sums: losses and accuracies."""
        report: dict[str, float | str] = {}
        for term in TERMS:
            if getattr(self.model, term) is not None:
                report[f"{term}_loss"] = sums.mean_loss(term)
                report[f"{term}_accuracy"] = sums.share([f"{term}_found"], [term])
        if self.model.met is not None:
            report["met_hidden_accuracy"] = sums.share(["met_hidden_found"], ["met_hidden"])
        if self.model.pp is not None:
            report["pp_moved_accuracy"] = sums.share(["pp_moved_found"], ["pp_moved"])
        return report


def require_entity_pairs(reader: ShardReader) -> None:
    """Check that every sentence of a dataset has a pair of entities.

    Raises:
        UserError: the dataset has no entities, or sentences with fewer than two.
    """
    reader.manifest.require_entities(reader.location)
    if reader.manifest.build["entities"]["min_entities"] < 2:
        raise UserError(
            f"{reader.location} holds sentences with fewer than two entities, which have no pair: annotate or build it "
            "with --min-entities 3 (the paper), or 2"
        )


def build_collate(config: EnparConfig, reader: ShardReader) -> EntityPairCollate:
    """The batches of a run.

    Raises:
        UserError: the dataset has no entities, or sentences with fewer than two.
    """
    require_entity_pairs(reader)
    special = reader.manifest.tokenizer.special_ids
    return EntityPairCollate(
        special=SpecialPieces(special.cls, special.sep, special.mask),
        seed=config.run.seed,
        lane_size=config.batch.lane_size,
        masked=config.masking.masked,
        replaced=config.masking.replaced,
        hide=config.met.weight > 0 or config.mep.weight > 0,
        typed=config.met.weight > 0,
        perturbed=config.acd.perturbed if config.acd.weight > 0 else 0,
        max_shift=config.acd.max_shift,
        permuted=config.pp.permutations - 1 if config.pp.weight > 0 else 0,
        identity=config.pp.weight > 0,
    )


def about_enpar(config: EnparConfig, encoder: PretrainedConfig) -> AboutRun:
    """Which parts a run trains, and their sizes; of the sentence encoder's none are asked."""
    pairs = config.acd.weight > 0 or config.pp.weight > 0
    return AboutRun(
        method="ENPAR",
        paper="Wang et al., EACL 2021: "
        '"ENPAR: Enhancing Entity and Entity Pair Representations for Joint Entity Relation Extraction"',
        trained_on="text with entities",
        objectives=(
            Objective("met", "masked entity typing", config.met.weight),
            Objective("mep", "masked entity prediction", config.mep.weight),
            Objective("acd", "adversarial context discrimination", config.acd.weight),
            Objective("pp", "permutation prediction", config.pp.weight),
        ),
        span_encoder=config.entity_encoder.sizes if pairs or config.met.weight > 0 else None,
        context_encoder=config.context_encoder.sizes if pairs else None,
        pair_encoder=EntityPairEncoderSizes(size=config.pair_encoder.size) if pairs else None,
        head_size=None,
        normalize=False,
    )


def _span_encoder(hidden_size: int, config: SpanEncoderConfig, dropout: float) -> SpanEncoder:
    return SpanEncoder(
        hidden_size, kernel_sizes=config.kernel_sizes, channels=config.channels, size=config.size, dropout=dropout
    )


def _check_objectives(config: EnparConfig) -> None:
    if not (config.met.weight or config.mep.weight or config.acd.weight or config.pp.weight):
        raise UserError("met.weight, mep.weight, acd.weight and pp.weight are all 0: nothing would be trained")
    if config.masking.masked + config.masking.replaced > 1:
        raise UserError("masking.masked and masking.replaced are more than all entities together")
    if config.mep.weight and not config.masking.masked + config.masking.replaced:
        raise UserError("masking.masked and masking.replaced are 0, and mep.weight is not: MEP would have no pieces")
