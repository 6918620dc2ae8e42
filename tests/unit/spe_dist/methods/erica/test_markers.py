"""Entity markers: around which mentions, with which numbers, and what entities are the means of."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from data_shards.errors import UserError
from spe_dist.methods.erica import markers
from spe_dist.methods.erica.markers import PAIRS, PIECES
from tests.paper.erica.oracle import random_documents
from tests.paper.erica.tiny_erica import LANE_SIZE, LANES, Step, word_pieces

ENCODER = {"encoder": {"max_positions": 512}}
VOCABULARY = word_pieces().vocab_size


def steps(most_mentions=None, monkeypatch=None):
    if most_mentions is not None:
        monkeypatch.setattr(markers, "MOST_MENTIONS", most_mentions)
    records = random_documents(LANES * LANE_SIZE, seed=11)
    return [Step(records, lanes_per_forward=6, pooling=pooling, **ENCODER) for pooling in ("mean", "marker")]


def mentions_of(records, row):
    """(first piece, piece after the last, entity) of each mention of a record."""
    bounds = np.append(records.word_starts.row(row), len(records.pieces.row(row)))
    entities = records.layers["mention_entities"].row(row)
    return [(bounds[a], bounds[b], e) for (a, b, _), e in zip(records.entities.row(row), entities, strict=True)]


@pytest.mark.parametrize("most", [None, 8])
def test_markers_stand_around_mentions_and_nothing_else_changes(most, monkeypatch):
    plain, marked = steps(most, monkeypatch)
    (batch,) = marked.batches
    sequences = zip(plain.sequences(plain.batches[0]), marked.sequences(batch), strict=True)
    ends = [*batch.pooled.starts.tolist()[1:], len(batch.pooled.pieces)]
    places = [batch.pooled.pieces[a:b].tolist() for a, b in pairwise([0, *ends])]
    weights = [batch.pooled.weights[a:b] for a, b in pairwise([0, *ends])]
    first_entity = 0
    for row, (without, with_markers) in enumerate(sequences):
        mentions = mentions_of(marked.records, row)
        count = 1 + max(entity for *_, entity in mentions)
        firsts = {entity: index for index, (*_, entity) in reversed(list(enumerate(mentions)))}
        others = [index for index in range(len(mentions)) if index not in firsts.values()]
        chosen = {*firsts.values(), *others[: max(0, (most or 64) - count)]}
        # Read the sequence as a person would: a first marker, pieces, its second marker.
        assert [piece for piece in with_markers if piece < VOCABULARY] == without
        begin = len(without) - 1 - len(marked.records.pieces.row(row))
        seen, position, number_of, start_places = [], 0, {}, {}
        start = int(batch.packed.sequence_starts[row])
        for place, piece in enumerate(with_markers):
            if piece < VOCABULARY:
                position += 1
                continue
            number, is_end = divmod(piece - VOCABULARY, 2)
            assert number < PAIRS
            if is_end:
                assert seen[-1][2] == number
                seen[-1][1] = position - begin
            else:
                seen.append([position - begin, None, number])
                start_places.setdefault(number, []).append(start + place)
        expected = [mention for index, mention in enumerate(mentions) if index in chosen]
        assert [(a, b) for a, b, _ in seen] == [(a, b) for a, b, _ in expected]
        for (*_, number), (*_, entity) in zip(seen, expected, strict=True):
            assert number_of.setdefault(entity, number) == number
        assert len(set(number_of.values())) == len(number_of) == count
        for entity, number in number_of.items():
            assert places[first_entity + entity] == start_places[number]
            expected_weight = torch.full((len(start_places[number]),), 1 / len(start_places[number]))
            assert torch.allclose(weights[first_entity + entity], expected_weight)
        first_entity += count
    assert first_entity == len(ends)


def test_markers_are_new_rows_of_the_word_embeddings_and_are_trained():
    _, marked = steps()
    table = marked.erica.model.encoder.sentence_encoder.word_embeddings.weight
    assert len(table) == marked.erica.encoder_config.vocab_size == VOCABULARY + PIECES
    assert table[VOCABULARY:].std().item() == pytest.approx(0.02, rel=0.1)
    losses, counts = marked.losses()
    assert torch.isfinite(losses).all() and all(counts.values())
    assert table.grad[VOCABULARY:].abs().sum() > 0


def test_documents_of_more_entities_than_are_marked_are_refused(monkeypatch):
    monkeypatch.setattr("spe_dist.methods.erica.collate.MOST_MENTIONS", 63)
    with pytest.raises(UserError, match="pooling 'marker' marks 63: build it with --max-entities 63"):
        steps()
