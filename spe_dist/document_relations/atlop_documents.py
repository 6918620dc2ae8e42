"""Documents in overlapping windows, and batches of all that ATLOP's head asks of them.

A document that is longer than the encoder has positions for is read in as few windows as hold it, spread evenly; a
piece of several windows has the mean of its states, and a mention that begins there the mean of its attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.ragged import IntArray, concat_ranges, offsets_from_lengths
from spe_dist.batches.batch import PackedSequences, Tensors
from spe_dist.batches.packing import as_tensor, pack
from spe_dist.document_relations.encoded_documents import EncodedDocuments, WindowedDocument
from spe_dist.documents.document_pieces import DocumentPieces
from spe_dist.models.packed_attention import AttentionRows


@dataclass(frozen=True)
class AtlopBatch(Tensors):
    """D documents of a forward in S windows, with M mentions of V entities, and N pairs of these.

    The places of a document are those of [CLS], its pieces and [SEP]; L is the most of a document. A window begins at
    the place of its own [CLS], which it has from the document's beginning, or which is left out.
    """

    packed: PackedSequences
    is_kept: Tensor  # [P] fp32: 0 for each [CLS] and [SEP] that is not its document's, else 1
    first_places: tuple[int, ...]  # of each window, [S]
    documents: Tensor  # [S] of each window
    times: Tensor  # [D, L] fp32: how many windows have a place, at least 1
    rows: AttentionRows  # where mentions begin, in each window that has this piece, [O]
    mentions: Tensor  # [O] of which mention
    places: Tensor  # [M] where each begins, numbered through all D × L
    entities: Tensor  # [M] of each mention
    entities_of: tuple[int, ...]  # how many each document has, [D]; their sum is V
    pairs_of: tuple[int, ...]  # [D]; their sum is N
    pairs: Tensor  # [N, 2] entities; those of a document are numbered within it
    targets: Tensor  # [N, 1 + R] fp32: 1 for each relation of the pair, or for class 0 if it has none


@dataclass(frozen=True)
class AtlopDocuments(EncodedDocuments):
    """Rows of the task: a row is a document in overlapping windows."""

    kind_of_windows = "overlapping windows"

    @staticmethod
    def _in_windows(pieces: DocumentPieces, most: int) -> WindowedDocument:
        return WindowedDocument.overlapping(pieces, most=most)

    def batch(self, rows: IntArray, pairs: Sequence[NDArray[np.int64]]) -> AtlopBatch:  # type: ignore[override]
        """A forward.

        Args:
            rows: the documents.
            pairs: pairs of entities of each of them.
        """
        documents = [self.documents[row] for row in rows]
        windows = np.concatenate([one.windows for one in documents])
        document = np.repeat(np.arange(len(documents)), [len(one.windows) for one in documents])
        ids = [one.pieces.piece_ids[begin:end] for one in documents for begin, end in one.windows]
        _, packed = pack(np.concatenate(ids), windows[:, 1] - windows[:, 0], self.special)
        sizes = np.array([len(one.pieces.piece_ids) for one in documents])
        starts = packed.sequence_starts.numpy().astype(np.int64)
        lengths = np.diff(starts)
        is_kept = np.ones(starts[-1], dtype=np.float32)
        is_kept[starts[:-1][windows[:, 0] > 0]] = 0
        is_kept[starts[1:][windows[:, 1] < sizes[document]] - 1] = 0
        most = int(sizes.max()) + 2
        times = np.zeros(len(documents) * most, dtype=np.float32)
        np.add.at(times, concat_ranges(document * most + windows[:, 0], lengths), is_kept)
        mentions = [one.pieces.mentions for one in documents]
        first_mentions = offsets_from_lengths(np.array([len(one) for one in mentions]))
        first_entities = offsets_from_lengths(np.array([len(one.pieces.numbers) for one in documents]))
        asked, of_mention = [], []
        for number, (begin, end), start in zip(document.tolist(), windows.tolist(), starts, strict=False):
            begins = mentions[number][:, 1]
            here = np.flatnonzero((begin <= begins) & (begins < end))
            asked.append(start + 1 + begins[here] - begin)
            of_mention.append(first_mentions[number] + here)
        counts = tuple(map(len, asked))
        numbered = list(zip(mentions, range(len(documents)), first_entities.tolist(), strict=False))
        return AtlopBatch(
            packed,
            torch.from_numpy(is_kept),
            tuple(windows[:, 0].tolist()),
            as_tensor(document),
            torch.from_numpy(times.reshape(-1, most).clip(min=1)),
            AttentionRows(as_tensor(np.concatenate(asked)), counts, tuple(lengths.tolist())),
            as_tensor(np.concatenate(of_mention)),
            as_tensor(np.concatenate([number * most + 1 + one[:, 1] for one, number, _ in numbered])),
            as_tensor(np.concatenate([one[:, 0] + first for one, _, first in numbered])),
            tuple(len(one.pieces.numbers) for one in documents),
            tuple(map(len, pairs)),
            as_tensor(np.concatenate(pairs)),
            self.targets(documents, pairs),
        )
