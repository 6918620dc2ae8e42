"""What an export changes: its answers and scores beside those of torch in fp32, on the same texts, in turns."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from spe_dist.extraction.predict.cut_texts import Text
from spe_dist.extraction.predict.extracted_text import ExtractedSentence, ExtractedText
from spe_dist.extraction.predict.extractor import Extractor
from spe_dist.extraction.scores.scoring import MEASURES, score

TURN = 256  # texts that one extractor reads before it is the other one's turn


@dataclass
class Proof:
    """What was compared, and what differed.

    Args:
        sentences: compared.
        entities: that torch found in them.
        relations: that torch found in them.
        other_answers: sentences with other entities or relations.
        score_difference: largest one of any entity or relation, where the answers are the same.
        torch_seconds: processor time of torch in fp32.
        export_seconds: processor time of the export.
        f1: on annotated sentences, by measure: of torch in fp32 and of the export, in 0..1.
    """

    sentences: int = 0
    entities: int = 0
    relations: int = 0
    other_answers: int = 0
    score_difference: float = 0.0
    torch_seconds: float = 0.0
    export_seconds: float = 0.0
    f1: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def times_as_fast(self) -> float:
        """Speed of the export relative to torch, by processor time."""
        return self.torch_seconds / max(self.export_seconds, 1e-9)

    def add(self, of_torch: ExtractedText, of_export: ExtractedText) -> None:
        """Compare what both found in a text."""
        for one, other in zip(of_torch.by_sentence(), of_export.by_sentence(), strict=True):
            (facts, scores), (other_facts, other_scores) = _answers(one), _answers(other)
            self.sentences += 1
            self.entities, self.relations = self.entities + len(one.entities), self.relations + len(one.relations)
            if facts != other_facts:
                self.other_answers += 1
            else:
                differences = (abs(score - other) for score, other in zip(scores, other_scores, strict=True))
                self.score_difference = max(self.score_difference, *differences, 0.0)


def compare(of_torch: Extractor, export: Extractor, texts: Iterable[Text], *, sentences: int) -> Proof:
    """Let both read the same texts, in turns.

    Args:
        of_torch: in fp32.
        export: made of it.
        texts: to read.
        sentences: after which to stop; the turn in which they are reached is finished.
    """
    proof, left = Proof(), iter(texts)
    for extractor in (of_torch, export):  # makes its kernels
        extractor(["It begins."])
    while proof.sentences < sentences and (turn := list(islice(left, TURN))):
        found, seconds = zip(*(_timed(extractor, turn) for extractor in (of_torch, export)), strict=True)
        proof.torch_seconds += seconds[0]
        proof.export_seconds += seconds[1]
        for pair in zip(*found, strict=True):
            proof.add(*pair)
    return proof


def f1_of(extractor: Extractor, gold: Sequence[AnnotatedSentence]) -> dict[str, float]:
    """Micro F1 on annotated sentences, in 0..1, by measure."""
    found = extractor.stream(sentence.words for sentence in gold)
    predicted = [_as_sentence(true, text) for true, text in zip(gold, found, strict=True)]
    scores = score(gold, predicted)
    return {measure: scores[measure].micro.f1 for measure in MEASURES}


def _timed(extractor: Extractor, texts: list[Text]) -> tuple[list[ExtractedText], float]:
    began = time.process_time()  # of all threads
    found = extractor(texts)
    return found, time.process_time() - began


def _answers(sentence: ExtractedSentence) -> tuple[tuple[list, list], list[float]]:
    entities = {number: (e.start, e.end, e.type) for number, e in sentence.entities.items()}
    relations = [(entities[r.head], entities[r.tail], r.type) for r in sentence.relations]
    scores = [e.score for e in sentence.entities.values()] + [r.score for r in sentence.relations]
    return (list(entities.values()), relations), scores


def _as_sentence(gold: AnnotatedSentence, found: ExtractedText) -> AnnotatedSentence:
    entities = [Entity(e.token_start or 0, e.token_end or 0, e.type) for e in found.entities]
    relations = [Relation(r.head, r.tail, r.type) for r in found.relations]
    return AnnotatedSentence(gold.words, tuple(entities), tuple(relations), gold.document, gold.number)
