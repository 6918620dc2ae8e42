from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from sentences import SPECIAL, build_collate, flat, random_sentences, records_of, word_starts

from spe_dist.batches.geometry_probe import GROUP_SIZE, GeometryProbe, build_probe

SHORT = random_sentences(1500, seed=1, least=5, longest=6)


class Reader:
    def __init__(self, sentences):
        self.records = records_of(sentences)

    def __len__(self):
        return len(self.records)

    def take(self, ids):
        return self.records.take(ids)


def shown_text(batch, sequence):
    start, end = batch.packed.sequence_starts[sequence : sequence + 2].tolist()
    return batch.packed.piece_ids[start:end].tolist()


def test_sentences_of_a_group_differ_in_nothing_but_their_pieces():
    probe = build_probe(Reader(SHORT), build_collate(), seed=3)
    batch, layouts, texts = probe.batch, defaultdict(set), defaultdict(list)
    records = len(probe.groups)
    for row, group in enumerate(probe.groups.tolist()):
        masks = [tuple(piece == SPECIAL.mask for piece in shown_text(batch, view)) for view in (row, row + records)]
        start = batch.packed.sequence_starts[row].item()
        first, last = batch.word_spans[row, 0, 0].item(), batch.word_spans[row, 4, 1].item()
        words = tuple((batch.word_pieces[first:last] - start).tolist())
        spans = tuple((batch.word_spans[row] - first).flatten().tolist())
        layouts[group].add((*masks, words, spans))
        texts[group].append((tuple(shown_text(batch, row)), tuple(shown_text(batch, row + records))))
    assert len(layouts) > 5
    assert all(len(layout) == 1 for layout in layouts.values())
    assert all(2 <= len(group) <= GROUP_SIZE and len(set(group)) == len(group) for group in texts.values())
    assert batch.counts.tolist() == [0, 0, 0, 0, records]


def test_no_two_sentences_of_equal_layout_give_no_probe():
    sentences = [[[4]] * length for length in range(5, 12)]
    assert build_probe(Reader(sentences), build_collate(), seed=3) is None
    assert build_probe(Reader([sentences[0]] * 3), build_collate(), seed=3) is None  # the same text


def test_partners_are_looked_for_within_the_group_in_both_directions():
    groups = torch.tensor([0, 0, 1, 1, 1])
    probe = GeometryProbe(SimpleNamespace(), groups)
    vectors = torch.nn.functional.normalize(torch.randn(10, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    found = 0
    for row, group in enumerate(groups.tolist()):
        rivals = [other for other, number in enumerate(groups.tolist()) if number == group]
        found += row == max(rivals, key=lambda other: float(vectors[row] @ vectors[5 + other]))
        found += row == max(rivals, key=lambda other: float(vectors[5 + row] @ vectors[other]))
    assert float(probe.count_found(vectors)) == found / 2
    assert float(probe.count_found(torch.cat([vectors[:5], vectors[:5]]))) == 5.0
    assert probe.chance() == pytest.approx(2 / 5)  # (2 · 1/2 + 3 · 1/3) of 5


def test_layout_is_more_than_length():
    sentences = [[[4, 4], [5], [6], [7], [8]], [[4], [5, 5], [6], [7], [8]]]
    assert len(flat(sentences[0])) == len(flat(sentences[1]))
    assert word_starts(sentences[0]) != word_starts(sentences[1])
    assert build_probe(Reader(sentences), build_collate(), seed=3) is None
