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
    """Sizes and kinds of the parts above the sentence encoder."""

    detector: Literal["tags", "spans"]
    """How entities are found: by a tag for each word, as in both papers, which finds no overlapping ones; or by a score
    for each span."""
    span_encoder: SpanEncoderSizes
    """Span CNN of the entities."""
    context_encoder: SpanEncoderSizes
    """Span CNN of left, middle and right of a pair; of the span encoder's sizes, it begins as a copy of that."""
    pair_encoder: Literal["attention", "concatenation"]
    """How the vectors of both entities and of left, middle and right become one: by the SPE paper's attention over the
    five, or by the ENPAR paper's concatenation and one transform block."""
    attention: PairEncoderSizes = PairEncoderSizes(attention_size=500, position_size=100)
    """Sizes of the attention; not used by concatenation."""
    pair_size: Positive = 256
    """Size of a pair vector of concatenation; one of attention is as large as a span vector."""
    relation_sizes: tuple[Positive, ...] = ()
    """Hidden layers of the relation classifier, between the pair vector and the scores."""
    word_shapes: bool = False
    """Whether the encoder reads how each word is written (lower case, Capitalised, CAPITALS, digits, ...) beside its
    pieces. An uncased tokenizer throws this away."""
    type_size: Count = 0
    """Size of the vectors of both entities' types that the relation classifier reads beside the pair vector; 0: it does
    not see the types."""

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
