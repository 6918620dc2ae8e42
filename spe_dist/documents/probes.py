"""What a sentence encoder knows of relations without fine-tuning: ERICA's two tasks, asked of annotated documents.

Entity discrimination (ED): of each document one fact (head, relation, tail) is drawn. Is the tail's vector nearer to
the head's than those of all other entities? True tails of the same head and relation are no candidates. It is asked
with [CLS] relation and head [SEP] in front of the document, with the head alone, and with nothing: an encoder that
reads the relation finds more with it.

Relation discrimination (RD): of each document three facts are drawn. Of the facts of other documents, do those whose
pair vectors [head ; tail] are nearest to a fact's have its relation?

All vectors are means of the last layer's states; near is by cosine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data_shards.annotated.document import Document
from data_shards.errors import UserError
from data_shards.ragged import offsets_from_lengths
from data_shards.text.word_pieces import WordPieces
from spe_dist.documents.document_pieces import DocumentPieces
from spe_dist.documents.neighbours import nearest_of_others
from spe_dist.documents.pooled_vectors import PooledForwards, PooledText
from spe_dist.documents.prefix import HEAD_PIECES, PREFIX_PIECES, RELATION_PIECES
from spe_dist.models.sentence_encoder import SentenceEncoder

MAX_PIECES = 480  # of a document, so that a prefix fits before it into 512
_FACTS_EACH, _NEAREST = 3, 10

WITH_RELATION, WITH_HEAD, WITHOUT = "ed_hits_at_1", "ed_hits_at_1_without_relation", "ed_hits_at_1_without_prefix"
Measures = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class DocumentProbes:
    """Questions about D documents, drawn and packed once, to be asked of any encoder of the same tokenizer.

    Every process that makes them of the same file with the same arguments gets the same questions and forwards.
    """

    documents: Sequence[DocumentPieces]  # each with a question, [D]
    facts: NDArray[np.int64]  # [D, 3] the facts of ED
    candidates: Sequence[NDArray[np.int64]]  # [D] the entities of each question of ED; the tail comes first
    pairs: NDArray[np.int64]  # [N, 4] of RD: document, head, tail, relation
    encodings: Mapping[str, PooledForwards]  # by the measure of ED that they give; RD uses the one without prefix

    @classmethod
    def draw(
        cls,
        documents: Sequence[DocumentPieces],
        relations: Sequence[str],
        word_pieces: WordPieces,
        *,
        seed: int = 0,
        measures: Sequence[str] = (WITH_RELATION, WITH_HEAD, WITHOUT),
    ) -> DocumentProbes:
        """Draw the questions and pack the documents.

        Args:
            documents: those without a fact whose tail has a rival are passed over.
            relations: names of the relations that facts number; they come first in a prefix.
            word_pieces: what cut the documents.
            seed: seed of the facts drawn.
            measures: of ED, each of which is a forward of all documents; WITHOUT, which RD uses, is always computed.

        Raises:
            UserError: fewer than two documents have such a fact.
        """
        documents = [document for document in documents if _has_question(document)]
        if len(documents) < 2:
            raise UserError("the probes need at least two documents with a relation: give a file that has them")
        generator = np.random.default_rng(seed)
        orders = [generator.permutation(len(document.facts)) for document in documents]
        facts = np.stack(
            [
                next(fact for fact in one.facts[order] if len(_candidates(one, *fact)) > 1)
                for one, order in zip(documents, orders, strict=True)
            ]
        )
        pairs = np.concatenate(
            [
                np.insert(one.facts[order[:_FACTS_EACH]], 0, number, axis=1)
                for number, (one, order) in enumerate(zip(documents, orders, strict=True))
            ]
        )
        candidates = [_candidates(one, *fact) for one, fact in zip(documents, facts.tolist(), strict=True)]
        names = word_pieces.encode_sentences(list(relations)).pieces
        heads = [one.first_mention(head)[:HEAD_PIECES] for one, head in zip(documents, facts[:, 0], strict=True)]
        sep = np.array([word_pieces.special_ids.sep])
        prefixes = {
            WITH_RELATION: [
                np.concatenate([names.row(relation)[:RELATION_PIECES], head, sep])
                for relation, head in zip(facts[:, 2], heads, strict=True)
            ],
            WITH_HEAD: [np.concatenate([head, sep]) for head in heads],
            WITHOUT: [sep[:0]] * len(documents),
        }
        encodings = {
            name: PooledForwards.pack(
                [
                    PooledText(one.piece_ids, one.mentions, len(one.numbers), prefix)
                    for one, prefix in zip(documents, prefixes[name], strict=True)
                ],
                word_pieces.special_ids,
            )
            for name in dict.fromkeys([*measures, WITHOUT])
        }
        return cls(documents, facts, candidates, pairs, encodings)

    @torch.no_grad()
    def ask(self, encoder: SentenceEncoder) -> Measures:
        """The answers of an encoder, one for each question; their means are the measures.

        With sharded weights (ZeRO-3), every rank must call this with equal questions.

        Args:
            encoder: in fp32 or bf16, on any device; in evaluation for the time of the call.

        Returns:
            By measure: of ED [D], of RD [N]; see `average`. NaN where vectors are not finite.
        """
        was_training = encoder.training
        encoder.eval()
        try:
            entities = {name: encoding.vectors(encoder).cpu() for name, encoding in self.encodings.items()}
        finally:
            encoder.train(was_training)
        starts = offsets_from_lengths(np.array([len(document.numbers) for document in self.documents]))
        measures = {name: self._hits(vectors, starts) for name, vectors in entities.items()}
        heads, tails = (starts[self.pairs[:, 0]] + self.pairs[:, column] for column in (1, 2))
        pairs = torch.cat([entities[WITHOUT][heads], entities[WITHOUT][tails]], dim=1)
        nearest = nearest_of_others(pairs, self.pairs[:, 0], most=_NEAREST)
        equal = (self.pairs[:, 3][nearest] == self.pairs[:, 3, None]) * (1.0 if pairs.isfinite().all() else np.nan)
        return measures | self._by_chance() | {"rd_1_nn": equal[:, 0], "rd_p_at_10": equal.mean(axis=1)}

    def _hits(self, entities: Tensor, starts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Whether the tail is the nearest candidate of each question; a tie is the share that guessing would win."""
        found = []
        for start, (head, _, _), candidates in zip(starts, self.facts, self.candidates, strict=False):
            of_head, of_candidates = entities[start + head], entities[start + candidates]
            found.append(_first_is_best(nn.functional.cosine_similarity(of_head, of_candidates, dim=1).numpy()))
        return np.array(found)

    def _by_chance(self) -> Measures:
        """What the questions give to who guesses, and to who takes the entity that is mentioned nearest to the head."""
        documents, relations = self.pairs[:, 0], self.pairs[:, 3]
        of_both = np.unique(self.pairs[:, [0, 3]], axis=0, return_inverse=True)[1].reshape(-1)
        equal = _size_of_group(relations) - _size_of_group(of_both)
        return {
            "ed_chance": np.array([1 / len(candidates) for candidates in self.candidates]),
            "ed_nearest": np.array(
                [
                    _first_is_best(-_distances(document.mentions, head)[candidates])
                    for document, (head, _, _), candidates in zip(
                        self.documents, self.facts, self.candidates, strict=True
                    )
                ]
            ),
            "rd_chance": equal / (len(documents) - _size_of_group(documents)),
        }


def probe_documents(
    documents: Sequence[Document],
    word_pieces: WordPieces,
    *,
    positions: int,
    count: int | None = None,
    seed: int = 0,
    measures: Sequence[str] = (WITH_RELATION, WITH_HEAD, WITHOUT),
) -> DocumentProbes:
    """Questions about annotated documents.

    Args:
        documents: of `read_documents`; cut to the sentences that fit into 480 pieces, or less if the encoder needs.
        word_pieces: tokenizer of the encoder.
        positions: the longest sequence that the encoder takes.
        count: how many documents with facts to draw; None: all.
        seed: seed of all that is drawn.
        measures: measures of ED.

    Raises:
        UserError: fewer than two documents have such a fact.
    """
    relations = {name: number for number, name in enumerate(sorted({f.type for d in documents for f in d.facts}))}
    most = min(MAX_PIECES, positions - PREFIX_PIECES)
    cut = partial(DocumentPieces.of, word_pieces=word_pieces, relations=relations, max_pieces=most)
    order = np.random.default_rng(seed).permutation(len(documents)) if count is not None else range(len(documents))
    drawn: dict[int, DocumentPieces] = {}
    for number in order:
        if len(drawn) == count:
            break
        if _has_question(document := cut(documents[number])):
            drawn[number] = document
    in_order = [drawn[number] for number in sorted(drawn)]
    return DocumentProbes.draw(in_order, list(relations), word_pieces, seed=seed, measures=measures)


def average(measures: Measures) -> dict[str, float]:
    """The mean of each measure."""
    return {name: float(values.mean()) for name, values in measures.items()}


def _has_question(document: DocumentPieces) -> bool:
    return any(len(_candidates(document, *fact)) > 1 for fact in document.facts.tolist())


def _candidates(document: DocumentPieces, head: int, tail: int, relation: int) -> NDArray[np.int64]:
    """The tail, then all other entities but the head and other true tails."""
    facts = document.facts
    true = facts[(facts[:, 0] == head) & (facts[:, 2] == relation), 1]
    others = np.setdiff1d(np.arange(len(document.numbers)), np.append(true, head))
    return np.concatenate([[tail], others])


def _size_of_group(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often the number of each place occurs."""
    return np.bincount(numbers)[numbers]


def _first_is_best(values: NDArray[np.floating]) -> float:
    """Whether the first value is the greatest; a tie is the share that guessing would win; NaN if any value is."""
    return float(values[0] == values.max()) / max(int((values == values[0]).sum()), 1) + 0 * float(values.sum())


def _distances(mentions: NDArray[np.int64], head: int) -> NDArray[np.float64]:
    """Fewest pieces between a mention of each entity and one of the head, [E]."""
    entities, starts, ends = mentions.T
    of_head = entities == head
    gaps = np.maximum(starts[:, None] - ends[of_head], starts[of_head] - ends[:, None]).clip(min=0).min(axis=1)
    distances = np.full(entities.max() + 1, np.inf)
    np.minimum.at(distances, entities, gaps)
    return distances
