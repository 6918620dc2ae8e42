"""Tiny sentences and a tiny model of extraction."""

import torch
from transformers import BertConfig

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.text.word_pieces import WordPieces
from spe_dist.extraction.model.architecture import Architecture
from spe_dist.extraction.model.constraints import Constraints
from spe_dist.extraction.model.encoded_sentences import Labels
from spe_dist.extraction.model.extractor_model import ExtractorModel
from spe_dist.models.saved_encoder import new_sentence_encoder
from spe_dist.models.sizes import PairEncoderSizes, SpanEncoderSizes
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

SPAN_SIZE, HIDDEN = 12, 16


def sentence(text: str, entities: str = "", relations: str = "") -> AnnotatedSentence:
    """`sentence("Marie met Ann .", "0-1:PER 2-3:PER", "0>1:MET")`."""
    parsed = [(*part.split(":")[0].split("-"), part.split(":")[1]) for part in entities.split()]
    related = [(*part.split(":")[0].split(">"), part.split(":")[1]) for part in relations.split()]
    return AnnotatedSentence(
        tuple(text.split()),
        tuple(Entity(int(start), int(end), kind) for start, end, kind in parsed),
        tuple(Relation(int(head), int(tail), kind) for head, tail, kind in related),
    )


SENTENCES = [
    sentence("Marie Curie was born in Warsaw .", "0-2:PER 5-6:LOC", "0>1:born_in"),
    sentence("in Paris lives Ann , who works for Acme Inc .", "1-2:LOC 3-4:PER 8-10:ORG", "1>0:lives 1>2:works"),
    sentence("nothing is here ."),
    sentence("Warsaw", "0-1:LOC"),
    sentence("the Acme office of Paris hired Marie", "4-5:LOC 1-2:ORG 6-7:PER", "2>1:works 1>0:seat"),
]
LABELS = Labels.of(SENTENCES)


def word_pieces() -> WordPieces:
    return WordPieces.load(str(DEBUG_VOCAB))


_SPAN_ENCODER = SpanEncoderSizes(kernel_sizes=(2, 3), channels=5, size=SPAN_SIZE)
ARCHITECTURE = Architecture(
    detector="tags",
    span_encoder=_SPAN_ENCODER,
    context_encoder=_SPAN_ENCODER,
    pair_encoder="attention",
    attention=PairEncoderSizes(attention_size=8, position_size=4),
    relation_sizes=(SPAN_SIZE, 10),
)
ANY_TYPES = Constraints(max_words=4, overlapping=False, triples=None)


def tiny_model(
    labels: Labels = LABELS,
    *,
    architecture: Architecture = ARCHITECTURE,
    constraints: Constraints = ANY_TYPES,
    seed: int = 0,
    dropout: float = 0.0,
) -> ExtractorModel:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=word_pieces().vocab_size, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=64, hidden_dropout_prob=dropout, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return architecture.build(labels, constraints, new_sentence_encoder(config), dropout=dropout)
