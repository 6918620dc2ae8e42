"""Documents as pieces in windows, and batches of their pairs of entities.

A document longer than the encoder has positions for is read in windows of whole sentences, one after another. An
entity's vector is a mean over its mentions in all of them, so nothing is cut off; only attention ends at a window.
The windows of ATLOP's head overlap (`atlop_documents.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from sys import maxsize
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.counted import counted
from data_shards.ragged import IntArray, offsets_from_lengths
from data_shards.text.word_pieces import WordPieces
from data_shards.tokenizer.files import SpecialIds
from spe_dist.batches.batch import PackedSequences, Tensors
from spe_dist.batches.packing import as_tensor, pack
from spe_dist.document_relations.graph import DocumentGraph
from spe_dist.documents.document_pieces import DocumentPieces
from spe_dist.documents.pooled_vectors import PooledPieces

DISTANCES = 20
NO_DISTANCE = DISTANCES // 2
_POWERS = 2 ** np.arange(NO_DISTANCE - 1)
_FRAME = 2  # [CLS] and [SEP]
_PAIRS = 12  # keeps these random numbers apart from the ones of other purposes


def distance_buckets(distances: IntArray) -> NDArray[np.int64]:
    """Logarithmic buckets of distances, 1..19: 10 + sign · (1 + ⌊log2 |distance|⌋, at most 9); 10 for 0."""
    return NO_DISTANCE + np.sign(distances) * np.searchsorted(_POWERS, np.abs(distances), side="right")


@dataclass(frozen=True)
class WindowedDocument:
    """A document with E entities, cut into windows."""

    pieces: DocumentPieces
    windows: NDArray[np.int64]  # first piece of each window, and the piece after its last, [W, 2]
    cut_sentences: int = 0  # windows that end within a sentence where others do not

    @classmethod
    def of(cls, pieces: DocumentPieces, *, most: int) -> WindowedDocument:
        """Cut greedily into windows of whole sentences, of at most `most` pieces.

        A sentence that is longer is cut where no mention is; a longer mention keeps what is in its first window.
        """
        size, starts = len(pieces.piece_ids), pieces.sentence_starts
        within = np.zeros(size + 1, dtype=bool)
        for _, start, end in pieces.mentions:
            within[start + 1 : end] = True
        cuts, cut_sentences = [0], 0
        while size - cuts[-1] > most:
            begin = cuts[-1]
            ends = starts[(begin < starts) & (starts <= begin + most)]
            if not len(ends):
                cut_sentences += 1
                ends = begin + 1 + np.flatnonzero(~within[begin + 1 : begin + most + 1])
            cuts.append(int(ends[-1]) if len(ends) else begin + most)
        return cls(pieces, np.array(list(pairwise([*cuts, size]))), cut_sentences)

    @classmethod
    def overlapping(cls, pieces: DocumentPieces, *, most: int) -> WindowedDocument:
        """As few windows of at most `most` pieces as hold all, spread evenly from the first piece to the last."""
        size = len(pieces.piece_ids)
        if size <= most:
            return cls(pieces, np.array([[0, size]]))
        starts = np.linspace(0, size - most, -(-size // most)).round().astype(np.int64)
        return cls(pieces, np.column_stack([starts, starts + most]))

    @property
    def mentions(self) -> NDArray[np.int64]:
        """Entity, first piece, and piece after the last, of each mention within its window, [M, 3]."""
        entities, starts, ends = self.pieces.mentions.T
        last = self.windows[np.searchsorted(self.windows[:, 0], starts, side="right") - 1, 1]
        return np.column_stack([entities, starts, np.minimum(ends, last)])

    @property
    def first_pieces(self) -> NDArray[np.int64]:
        """Where each entity is mentioned first, [E]."""
        entities = np.arange(len(self.pieces.numbers))
        return self.pieces.mentions[np.searchsorted(self.pieces.mentions[:, 0], entities), 1]

    def all_pairs(self) -> NDArray[np.int64]:
        """All ordered pairs of two entities, [E (E - 1), 2]."""
        size = len(self.pieces.numbers)
        return np.argwhere(~np.eye(size, dtype=bool)).reshape(-1, 2)


@dataclass(frozen=True)
class PairBatch(Tensors):
    """Documents of a forward with V entities, and N pairs of them."""

    packed: PackedSequences
    pooled: PooledPieces
    pairs: Tensor  # [N, 2] rows of entities
    distances: Tensor  # [N] bucket of head's first piece − tail's
    targets: Tensor  # [N, 1 + R] fp32: 1 for each relation of the pair, or for class 0 if it has none


@dataclass(frozen=True)
class EncodedDocuments:
    """Rows of the task: a row is a document."""

    kind_of_windows: ClassVar[str] = "windows of whole sentences"

    items: Sequence[DocumentGraph]
    documents: Sequence[WindowedDocument]
    relations: Sequence[str]
    special: SpecialIds
    num_pieces: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        sizes = [int(np.diff(one.windows).sum()) + _FRAME * len(one.windows) for one in self.documents]
        object.__setattr__(self, "num_pieces", np.array(sizes, dtype=np.int64))

    @classmethod
    def of(
        cls,
        items: Sequence[DocumentGraph],
        relations: Sequence[str],
        word_pieces: WordPieces,
        *,
        max_pieces: int,
        mark: Callable[[DocumentPieces], DocumentPieces] | None = None,
    ) -> Self:
        """Cut documents into pieces and windows.

        Args:
            items: with their documents.
            relations: that the model tells apart; facts of others are left out.
            word_pieces: tokenizer of the encoder.
            max_pieces: longest sequence of the encoder, [CLS] and [SEP] included.
            mark: puts markers around mentions; None: there are none.
        """
        numbers = {name: 1 + number for number, name in enumerate(relations)}
        documents = []
        for item in items:
            assert item.document is not None
            known = tuple(fact for fact in item.document.facts if fact.type in numbers)
            pieces = DocumentPieces.of(item.document._replace(facts=known), word_pieces, numbers, max_pieces=maxsize)
            pieces = pieces if mark is None else mark(pieces)
            documents.append(cls._in_windows(pieces, max_pieces - _FRAME))
        return cls(items, documents, relations, word_pieces.special_ids)

    @staticmethod
    def _in_windows(pieces: DocumentPieces, most: int) -> WindowedDocument:
        return WindowedDocument.of(pieces, most=most)

    def __len__(self) -> int:
        return len(self.items)

    def draw_pairs(self, row: int, *, unrelated: float | None, seed: int, epoch: int) -> NDArray[np.int64]:
        """Pairs of a document to learn from: all related ones, then others, drawn anew in each epoch.

        Args:
            row: the document.
            unrelated: pairs to draw for each related one; all, if there are fewer, or if it is None.
            seed: seed of the run.
            epoch: counted from 0.
        """
        pairs, is_related = self._related(row)
        others = np.flatnonzero(~is_related)
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((_PAIRS, seed, epoch, row))))
        wanted = len(others) if unrelated is None else min(len(others), round(unrelated * int(is_related.sum())))
        drawn = np.sort(generator.permutation(others)[:wanted])
        return np.concatenate([pairs[is_related], pairs[drawn]])

    def batch(self, rows: IntArray, pairs: Sequence[NDArray[np.int64]]) -> PairBatch:
        """A forward.

        Args:
            rows: the documents.
            pairs: pairs of entities of each of them.
        """
        documents = [self.documents[row] for row in rows]
        ids = np.concatenate([one.pieces.piece_ids for one in documents])
        lengths = np.concatenate([np.diff(one.windows)[:, 0] for one in documents])
        places, packed = pack(ids, lengths, self.special)
        first_pieces = offsets_from_lengths(np.array([len(one.pieces.piece_ids) for one in documents]))
        first_entities = offsets_from_lengths(np.array([len(one.pieces.numbers) for one in documents]))
        mentions = np.concatenate(
            [
                one.mentions + np.array([entity, piece, piece])
                for one, entity, piece in zip(documents, first_entities, first_pieces, strict=False)
            ]
        )
        spans = np.column_stack([places[mentions[:, 1]], places[mentions[:, 2] - 1] + 1]).reshape(-1, 2)
        first = [one.first_pieces for one in documents]
        distances = [
            distance_buckets(pieces[of_document[:, 0]] - pieces[of_document[:, 1]])
            for pieces, of_document in zip(first, pairs, strict=True)
        ]
        return PairBatch(
            packed,
            PooledPieces.of_mentions(spans, mentions[:, 0], int(first_entities[-1])),
            in_forward(pairs, first_entities),
            as_tensor(np.concatenate(distances)),
            self.targets(documents, pairs),
        )

    def targets(self, documents: Sequence[WindowedDocument], pairs: Sequence[NDArray[np.int64]]) -> Tensor:
        """What is true of the pairs of documents, [N, 1 + R] fp32."""
        targets = np.zeros((sum(map(len, pairs)), 1 + len(self.relations)), dtype=np.float32)
        row = 0
        for one, of_document in zip(documents, pairs, strict=True):
            at = np.full((len(one.pieces.numbers),) * 2, -1)
            at[of_document[:, 0], of_document[:, 1]] = np.arange(row, row + len(of_document))
            facts = one.pieces.facts
            taken = at[facts[:, 0], facts[:, 1]]
            targets[taken[taken >= 0], facts[taken >= 0, 2]] = 1
            row += len(of_document)
        targets[:, 0] = ~targets.any(axis=1)
        return torch.from_numpy(targets)

    def without_related_pairs(self) -> int:
        """Documents that nothing is learned from."""
        return sum(not len(one.pieces.facts) for one in self.documents)

    def lost_facts(self) -> int:
        """Facts of known relations that cannot be learned or found: of entities without words, or with themselves."""
        known = set(self.relations)
        told = sum(edge.type in known for item in self.items for edge in item.edges)
        return told - sum(len(one.pieces.facts) for one in self.documents)

    def about_windows(self, max_pieces: int) -> str:
        """How many documents are read in windows, for people; empty if none is."""
        long = [one for one in self.documents if len(one.windows) > 1]
        if not long:
            return ""
        windows, cut = sum(len(one.windows) for one in long), sum(one.cut_sentences for one in long)
        told = f"; cut between mentions: {counted(cut, 'sentence')}, longer than that alone" if cut else ""
        return (
            f"{len(long)} of {len(self)} documents are longer than the encoder's {max_pieces} positions: each is read "
            f"in {self.kind_of_windows}, {windows} in all{told}"
        )

    def _related(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        document = self.documents[row]
        pairs, facts = document.all_pairs(), document.pieces.facts
        related = np.zeros((len(document.pieces.numbers),) * 2, dtype=bool)
        related[facts[:, 0], facts[:, 1]] = True
        return pairs, related[pairs[:, 0], pairs[:, 1]]


def in_forward(pairs: Sequence[NDArray[np.int64]], first_entities: IntArray) -> Tensor:
    """Pairs of entities of documents → of the entities of all documents of a forward, [N, 2]."""
    return as_tensor(np.concatenate([one + entity for one, entity in zip(pairs, first_entities, strict=False)]))


def forwards(num_pieces: IntArray, most: int) -> list[NDArray[np.int64]]:
    """Rows in order of length, in groups of at most `most` pieces, or of a single row."""
    order, groups, sizes = np.argsort(num_pieces, kind="stable"), [0], 0
    for place, size in enumerate(num_pieces[order].tolist()):
        if sizes + size > most and place > groups[-1]:
            groups.append(place)
            sizes = 0
        sizes += size
    return [order[begin:end] for begin, end in pairwise([*groups, len(order)]) if begin < end]
