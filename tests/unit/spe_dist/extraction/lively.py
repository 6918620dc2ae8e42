"""A tiny extractor with random weights that finds something everywhere, and texts of all kinds to give it."""

from functools import cache
from pathlib import Path

import torch
from hypothesis import strategies as st

from spe_dist.extraction.model.encoded_sentences import Labels
from spe_dist.extraction.model.extractor_model import ExtractorModel
from spe_dist.extraction.predict.extractor import Extractor
from spe_dist.extraction.predict.extractor_folder import STEM, ExtractorDescription
from spe_dist.finetuning.model_folder import save_model
from tests.unit.spe_dist.extraction.tiny import ANY_TYPES, ARCHITECTURE, tiny_model, word_pieces

LABELS = Labels(("LOC", "ORG", "PER <b>&'\""), ("born_in", "seat <i>", "works"))


def lively_model() -> ExtractorModel:
    model = tiny_model(LABELS).eval()
    with torch.no_grad():
        for layer in (model.detector.tags, model.types, model.relations.scores):
            layer.weight.normal_(std=4.0)
        model.detector.tags.bias[0] = 2.0
    return model


def save_lively(folder: Path) -> Path:
    model = lively_model()
    description = ExtractorDescription(
        entity_types=LABELS.entity_types,
        relation_types=LABELS.relation_types,
        architecture=ARCHITECTURE,
        constraints=ANY_TYPES,
        language="en",
    )
    save_model(folder, STEM, model.sentence_encoder, description, word_pieces(), model.state_dict())
    return folder


@cache
def lively(batch_size: int = 64, precision: str = "fp32") -> Extractor:
    return Extractor(lively_model(), word_pieces(), device="cpu", precision=precision, batch_size=batch_size)


_LETTERS = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=8)
_NASTY = st.sampled_from(
    [" ", "\n", "\t", "\x00", "\x1b[31m", "\x7f", "\x85", "\u200b", "\u2028", "\u3000", "\ufeff", "\ud800", "\udfff",
     "😀", "👩‍👩‍👧", "e\u0301", "مرحبا بك.", "שלום עולם", "\u202eabc", "中文。测试", "İ", "ﬁ", "ß",
     ". ", "...", "“", "'s", "[SEP]", "[CLS]", "</p><script>", "Dr. ", "http://x.y/?a=b", "Warsaw",
     "Marie Curie was born in Warsaw. ",
     "x" * 300, "(" * 300, "中" * 100, "a b " * 60]
)  # fmt: skip
RAW_TEXTS = st.lists(st.one_of(_NASTY, _LETTERS, st.just(" "), st.text(max_size=5), st.characters()), max_size=20).map(
    "".join
)
WORDS = st.lists(st.one_of(_NASTY, _LETTERS, st.just("")), max_size=20)
