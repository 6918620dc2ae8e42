from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from spe_dist.methods.spe.geometry_probe import GROUP_SIZE, GeometryProbe, build_probes
from tests.unit.spe_dist.batches.sentences import SPECIAL, build_collate, random_sentences, records_of

SHORT = random_sentences(3000, seed=1, least=5, longest=6)


class Reader:
    def __init__(self, sentences):
        self.records = records_of(sentences)

    def __len__(self):
        return len(self.records)

    def take(self, ids):
        return self.records.take(ids)


def looks_and_texts(probe):
    """Of each group: what is masked in both views and where the spans begin, where the words begin, what is shown."""
    batch, records = probe.batch, len(probe.groups)
    geometries, layouts, texts = defaultdict(set), defaultdict(set), defaultdict(list)
    ids, starts, words = (
        batch.packed.piece_ids.tolist(), batch.packed.sequence_starts.tolist(), batch.word_pieces.tolist()
    )  # fmt: skip
    for row, group in enumerate(probe.groups.tolist()):
        views = [tuple(ids[starts[view] : starts[view + 1]]) for view in (row, row + records)]
        places = [word - starts[row] for word in words if starts[row] <= word < starts[row + 1]]
        first_word = batch.word_spans[row, 0, 0].item()
        places.append(len(views[0]) - 1)
        spans = [places[word - first_word] for word in batch.word_spans[row].flatten().tolist()]
        masks = [tuple(piece == SPECIAL.mask for piece in view) for view in views]
        geometries[group].add((*masks, *spans))
        layouts[group].add(tuple(places))
        texts[group].append(tuple(views))
    return geometries, layouts, texts


@pytest.mark.parametrize("name", ["geometry", "layout"])
def test_sentences_of_a_group_look_alike_and_differ_in_their_words(name):
    probe = build_probes(Reader(SHORT), build_collate())[name]
    geometries, layouts, texts = looks_and_texts(probe)
    assert len(geometries) > 5
    assert all(len(looks) == 1 for looks in geometries.values())
    assert all(len(looks) == 1 for looks in layouts.values()) == (name == "layout")
    assert all(2 <= len(group) <= GROUP_SIZE and len(set(group)) == len(group) for group in texts.values())
    assert probe.batch.counts.tolist() == [0, 0, 0, 0, len(probe.groups)]


def test_a_run_of_one_mask_for_a_span_is_asked_about_such_views():
    usual = build_probes(Reader(SHORT), build_collate())["layout"]
    probe = build_probes(Reader(SHORT), build_collate(mask_unit="span", whole_sentences=True))["layout"]
    assert probe.groups.tolist() == usual.groups.tolist()
    assert probe.batch.word_spans.shape == usual.batch.word_spans.shape
    assert len(probe.batch.packed.piece_ids) < len(usual.batch.packed.piece_ids)


def test_sentences_that_do_not_look_alike_or_say_the_same_give_no_probe():
    sentences = [[[4]] * length for length in range(5, 12)]
    assert build_probes(Reader(sentences), build_collate()) == {}
    assert build_probes(Reader([sentences[0]] * 30), build_collate()) == {}


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
