"""Encoded sentences → the same sentences with what a model finds in them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from spe_dist.extraction.annotated_sentence import AnnotatedSentence, Entity, Relation
from spe_dist.extraction.candidates import sentences_of
from spe_dist.extraction.encoded_sentences import SECOND_IS_HEAD, EncodedSentences, Labels
from spe_dist.extraction.extractor_model import Extracted, ExtractorModel
from spe_dist.extraction.windows import stitch, take_window

Found = tuple[list[Entity], list[Relation]]


def predict(
    model: ExtractorModel, encoded: EncodedSentences, *, batch_size: int, device: torch.device
) -> list[AnnotatedSentence]:
    """What a model finds; words, documents and numbers are those of the sentences, their annotation is not looked at.

    Args:
        model: in evaluation mode, on the device.
        encoded: by the model's labels and tokenizer.
        batch_size: rows of a forward; changes no result.
        device: to compute on.
    """
    rows = _found_in_rows(model, encoded, batch_size, device)
    predicted = []
    for sentence, windows in zip(encoded.sentences, encoded.windows, strict=True):
        found = [
            AnnotatedSentence(
                take_window(sentence, window).words,
                tuple(entities),
                tuple(relations),
                sentence.document,
                sentence.number,
            )
            for window, (entities, relations) in zip(windows, islice(rows, len(windows)), strict=True)
        ]
        predicted.append(found[0] if len(found) == 1 else stitch(sentence, windows, found))
    return predicted


def _found_in_rows(
    model: ExtractorModel, encoded: EncodedSentences, batch_size: int, device: torch.device
) -> Iterator[Found]:
    for first in range(0, len(encoded), batch_size):
        batch = encoded.batch(np.arange(first, min(first + batch_size, len(encoded))))
        yield from _per_sentence(model.extract(batch.to(device)), batch.word_offsets, model.labels)


def _per_sentence(extracted: Extracted, word_offsets: np.ndarray, labels: Labels) -> list[Found]:
    """What was found in each sentence of a batch, counted in its own words and entities."""
    found: list[Found] = [([], []) for _ in range(len(word_offsets) - 1)]
    sentences = sentences_of(extracted.spans, word_offsets)
    first_entities = np.searchsorted(sentences, sentences)  # of the entity's sentence, [N]
    spans = extracted.spans - word_offsets[sentences, None]
    for sentence, (start, end), kind in zip(sentences.tolist(), spans.tolist(), extracted.types.tolist(), strict=True):
        found[sentence][0].append(Entity(start, end, labels.entity_types[kind]))
    pairs = extracted.pairs - first_entities[extracted.pairs]
    for sentence, (first, second), label in zip(
        sentences[extracted.pairs[:, 0]].tolist(), pairs.tolist(), extracted.relations.tolist(), strict=True
    ):
        head, tail = (second, first) if label % 2 == SECOND_IS_HEAD else (first, second)
        found[sentence][1].append(Relation(head, tail, labels.relation_types[label // 2]))
    return found
