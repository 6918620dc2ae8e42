"""What an extractor is made of.

The recipe chooses it, whatever the weights begin as: runs that start from different pre-trainings can then be compared,
as nothing else differs.
"""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from data_shards.errors import UserError
from spe_dist.config import STRICT, Count, Positive
from spe_dist.extraction.model.constraints import Constraints
from spe_dist.extraction.model.encoded_sentences import Labels
from spe_dist.extraction.model.extractor_model import ExtractorModel, RelationClassifier
from spe_dist.extraction.model.span_detection import Detector, SpanDetector, TagDetector
from spe_dist.models.from_sizes import pair_encoder_of, span_encoder_of
from spe_dist.models.sentence_encoder import SentenceEncoder
from spe_dist.models.sizes import EntityPairEncoderSizes, PairEncoderSizes, SpanEncoderSizes


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Architecture:
    """Kinds and sizes of the parts above the sentence encoder."""

    detector: Literal["tags", "spans"]
    """How entities are found: tags (a BIEOU tag per word, as in both papers; no overlapping entities) or spans (a score
    per span)."""
    span_encoder: SpanEncoderSizes
    """Span CNN of the entities."""
    context_encoder: SpanEncoderSizes
    """Span CNN of left, middle and right context. With the span encoder's sizes, it starts as a copy of it."""
    pair_encoder: Literal["attention", "concatenation"]
    """How both entities and their contexts become one vector: attention over five spans (SPE paper), or concatenation
    and one transform block (ENPAR paper)."""
    attention: PairEncoderSizes = PairEncoderSizes(attention_size=500, position_size=100)
    """Sizes of the attention; unused with concatenation."""
    pair_size: Positive = 256
    """Size of a pair vector with concatenation; with attention it is the size of a span vector."""
    relation_sizes: tuple[Positive, ...] = ()
    """Sizes of the relation classifier's hidden layers."""
    word_shapes: bool = False
    """Give the encoder the written form of each word (lower case, Capitalised, CAPITALS, digits, ...), which an uncased
    tokenizer discards."""
    type_size: Count = 0
    """Size of the entity type vectors that the relation classifier reads; 0 hides the types."""

    def check(self) -> None:
        """Raise a UserError if parts do not fit each other."""
        context = self.context_encoder
        if self.pair_encoder == "attention" and context.size != self.span_encoder.size:
            raise UserError(
                f"model.pair_encoder attention needs span vectors of one size, but model.span_encoder.size is "
                f"{self.span_encoder.size} and model.context_encoder.size is {context.size}: make them equal, or set "
                "model.pair_encoder to concatenation"
            )

    @property
    def pair_encoder_sizes(self) -> PairEncoderSizes | EntityPairEncoderSizes:
        """As a pre-trained model names them."""
        return self.attention if self.pair_encoder == "attention" else EntityPairEncoderSizes(size=self.pair_size)

    def build(
        self, labels: Labels, constraints: Constraints, sentence_encoder: SentenceEncoder, *, dropout: float
    ) -> ExtractorModel:
        """An extractor of this architecture; all but the sentence encoder is new."""
        hidden_size = sentence_encoder.hidden_size
        span, context = self.span_encoder, self.context_encoder
        span_encoder, context_encoder = (
            span_encoder_of(sizes, hidden_size, dropout=dropout) for sizes in (span, context)
        )
        if context == span:
            context_encoder.load_state_dict(span_encoder.state_dict())
        pair_encoder = pair_encoder_of(
            self.pair_encoder_sizes, hidden_size, span=span, context=context, dropout=dropout
        )
        detector: Detector = TagDetector(hidden_size)
        if self.detector == "spans":
            detector = SpanDetector(hidden_size, constraints.max_words, dropout=dropout)
        relations = RelationClassifier(
            pair_encoder.size, self.relation_sizes, labels, type_size=self.type_size, dropout=dropout
        )
        return ExtractorModel(
            labels,
            constraints,
            sentence_encoder=sentence_encoder,
            detector=detector,
            span_encoder=span_encoder,
            context_encoder=context_encoder,
            pair_encoder=pair_encoder,
            relations=relations,
            word_shapes=self.word_shapes,
            dropout=dropout,
        )
