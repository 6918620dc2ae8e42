"""ERICA's losses of a step, its draws and its gradient, against `oracle`, which knows the paper's statement only."""

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from spe_dist.engine.world import World
from spe_dist.methods.erica.collate import DocumentCollate
from spe_dist.methods.erica.footprint import bytes_beside, transfers
from spe_dist.methods.metric_sums import MetricSums
from tests.paper.erica.oracle import (
    Row,
    cross_entropy_of_first,
    entity_discrimination,
    random_documents,
    relation_discrimination,
)
from tests.paper.erica.tiny_erica import (
    LANE_SIZE,
    LANES,
    OFF,
    RELATIONS,
    SEEDS,
    Step,
    rows_of,
    step_of,
    word_pieces,
)

SPECIAL = word_pieces().special_ids
NAMES = [word_pieces().encode_sentences([name]).pieces.values.tolist() for name in RELATIONS]
HALF = LANE_SIZE // 2


def questions(step: Step, number: int):
    """(index of the document in its forward, fact that is asked about) of each question, as sequences show them."""
    batch, documents = step.batches[number], step.documents_of(number)
    first = np.cumsum([0, *(len(document.knowledge) for document in documents)])
    found = []
    heads, tails = batch.ed_heads.tolist(), [row[0] for row in batch.ed_candidates.tolist()]
    asked = [i for i, sequence in enumerate(step.sequences(batch)) if len(sequence) > len(documents[i].pieces) + 2]
    for index, head, tail in zip(asked, heads, tails, strict=True):
        document, sequence = documents[index], step.sequences(batch)[index]
        head, tail = head - first[index], tail - first[index]
        prefix = sequence[1 : len(sequence) - len(document.pieces) - 1]
        start, end, _ = next(mention for mention in document.mentions if mention[2] == head)
        mention = [document.pieces[i] for i in document.pieces_of_words(start, end)]
        relations = [r for h, t, r in document.facts if (h, t) == (head, tail)]
        matching = [r for r in relations if prefix == [*NAMES[r][:16], *mention[:14], SPECIAL.sep]]
        assert len(matching) == 1
        found.append((index, (head, tail, matching[0])))
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_entity_vectors(seed):
    step = step_of(seed)
    for number, batch in enumerate(step.batches):
        with torch.no_grad():
            _, entities = step.erica.model.encoder(batch)
        states = step.states(batch)
        expected = [
            vector for document, of in zip(step.documents_of(number), states, strict=True)
            for vector in document.entity_vectors(of)
        ]  # fmt: skip
        torch.testing.assert_close(entities.double(), torch.stack(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("masked", [True, False])
def test_entity_discrimination(seed, masked):
    step = step_of(seed, ed={"weight": 1.0, "mask_true_tails": masked}, rd=OFF, mlm=OFF)
    for number, batch in enumerate(step.batches):
        documents = step.documents_of(number)
        first = np.cumsum([0, *(len(document.knowledge) for document in documents)])
        asked = questions(step, number)
        for (i, fact), row in zip(asked, batch.ed_candidates.tolist(), strict=True):
            candidates = [one - first[i] for one in row if one >= 0]
            expected = documents[i].tails_to_choose_from(fact, true_tails=not masked)
            assert candidates[0] == expected[0] and sorted(candidates) == sorted(expected)
        could_be_asked = {
            i for i, document in enumerate(documents)
            if any(len(document.tails_to_choose_from(fact, true_tails=not masked)) > 1 for fact in document.facts)
        }  # fmt: skip
        assert {i for i, _ in asked} <= could_be_asked
        without_question = could_be_asked - {i for i, _ in asked}  # those whose fact had no other candidate
        for i in without_question:
            assert any(
                len(documents[i].tails_to_choose_from(f, true_tails=not masked)) == 1 for f in documents[i].facts
            )
    total, items = step.losses()
    assert items["ed"] == sum(len(batch.ed_heads) for batch in step.batches)
    expected = sum(
        entity_discrimination(
            step.documents_of(n)[i], step.states(batch)[i], fact, true_tails=not masked
        ).item()
        for n, batch in enumerate(step.batches) for i, fact in questions(step, n)
    )  # fmt: skip
    assert total[0].item() == pytest.approx(expected, rel=1e-4)


def test_each_fact_of_a_document_is_asked_about_equally_often():
    records = random_documents(LANES * LANE_SIZE, seed=2)
    asked = defaultdict(Counter)
    steps = 300
    step = Step(records, rd=OFF, mlm=OFF)
    for number in range(steps):
        step.batches = [step._batch(lanes, number) for lanes in step.forwards]
        for n in range(len(step.batches)):
            for i, fact in questions(step, n):
                asked[n, i][fact] += 1
    chi_squares = []
    for (n, i), counts in asked.items():
        facts = step.documents_of(n)[i].facts
        usable = [fact for fact in facts if len(step.documents_of(n)[i].tails_to_choose_from(fact)) > 1]
        assert set(counts) <= set(usable)
        expected = steps / len(facts)
        chi_squares.append((sum((counts[fact] - expected) ** 2 / expected for fact in usable), len(usable)))
    statistic, freedom = (sum(column) for column in zip(*chi_squares, strict=True))
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5


def test_halves_of_a_lane_serve_one_objective_each():
    step = step_of(1)
    for number in range(len(step.batches)):
        documents = step.documents_of(number)
        asked = {i for i, _ in questions(step, number)}
        assert asked and all(i % LANE_SIZE >= HALF for i in asked)
        related = {rows.document for rows in rows_of(step, number)}
        assert related and all(i % LANE_SIZE < HALF for i in related)
        assert len(documents) == 2 * LANE_SIZE
    for off, count in (("ed", "rd"), ("rd", "ed")):
        alone = step_of(1, **{off: OFF})
        served = set()
        for number in range(len(alone.batches)):
            served |= {i % LANE_SIZE for i, _ in questions(alone, number)} if count == "ed" else {
                row.document % LANE_SIZE for row in rows_of(alone, number)
            }  # fmt: skip
        assert served == set(range(LANE_SIZE))


@pytest.mark.parametrize("seed", SEEDS)
def test_pieces_to_predict_are_outside_of_mentions_and_the_prefix(seed):
    step = step_of(seed, mlm={"weight": 1.0, "masked": 0.5})
    for number, batch in enumerate(step.batches):
        chosen = dict(zip(batch.mlm_pieces.tolist(), batch.mlm_targets.tolist(), strict=True))
        assert len(chosen) == len(batch.mlm_pieces) > 0
        ends = batch.packed.sequence_starts[1:].tolist()
        pieces = batch.packed.piece_ids.tolist()
        places = set()
        for document, end in zip(step.documents_of(number), ends, strict=True):
            begin = end - 1 - len(document.pieces)
            of_document = {place - begin: target for place, target in chosen.items() if begin <= place < end - 1}
            assert set(of_document) <= document.maskable()
            for place, piece in enumerate(document.pieces):
                if place in of_document:
                    assert of_document[place] == piece
                else:
                    assert pieces[begin + place] == piece
            places |= {begin + place for place in of_document}
        assert places == set(chosen)
    with torch.no_grad():
        expected = 0.0
        for batch in step.batches:
            states = step.erica.model.encoder.sentence_encoder(batch.packed)
            head = step.erica.model.mlm
            for place, target in zip(batch.mlm_pieces.tolist(), batch.mlm_targets.tolist(), strict=True):
                logits = head.decoder(head.block(states[place])).double()
                expected += (torch.logsumexp(logits, 0) - logits[target]).item()
    assert step.losses()[0][2].item() == pytest.approx(expected, rel=1e-4)


def test_masked_language_modelling_alone_asks_compares_and_sends_nothing():
    step = step_of(0, ed=OFF, rd=OFF)
    config, model = step.erica.config, step.erica.model
    assert not bytes_beside(config, model) and not transfers(config, model, step.plan)
    for number, batch in enumerate(step.batches):
        lengths = [len(document.pieces) + 2 for document in step.documents_of(number)]
        assert [len(sequence) for sequence in step.sequences(batch)] == lengths
        assert not any(len(part) for part in (batch.ed_heads, batch.ed_candidates, batch.rd_entities, batch.rd_pairs))
    assert step.erica.before_step(step.engine, World(), step.plan, step.batches) == {"candidates": 0}
    assert not step.engine.calls
    total, items = step.losses()
    assert total[2] > 0 and total[:2].tolist() == [0, 0] and (items["ed"], items["rd"]) == (0, 0)
    sums = MetricSums(dict(zip(step.erica.terms, total.tolist(), strict=True)), items, defaultdict(float))
    assert step.erica.report(sums).keys() == {"mlm_loss", "mlm_accuracy"}


def test_pieces_are_hidden_as_bert_hides_them():
    kinds, possible = Counter(), 0
    records = random_documents(LANES * LANE_SIZE, seed=1, least=25)
    step = Step(records)
    for number in range(60):
        for n, lanes in enumerate(step.forwards):
            batch = step._batch(lanes, number)
            possible += sum(len(document.maskable()) for document in step.documents_of(n))
            for place, target in zip(batch.mlm_pieces.tolist(), batch.mlm_targets.tolist(), strict=True):
                shown = batch.packed.piece_ids[place].item()
                kinds["masked" if shown == SPECIAL.mask else "kept" if shown == target else "replaced"] += 1
    chosen = sum(kinds.values())
    for count, of, share in (
        (chosen, possible, 0.15),
        (kinds["masked"], chosen, 0.8),
        (kinds["replaced"], chosen, 0.1),
        (kinds["kept"], chosen, 0.1),
    ):
        assert abs(count - share * of) < 5 * (share * of) ** 0.5


def test_the_loss_is_the_sum_of_three_means():
    step = step_of(2)
    total, items = step.losses()
    together = step.gradient()
    parts = torch.zeros_like(together)
    for term in ("ed", "rd", "mlm"):
        other = step_of(2)
        other.erica.term_weights = tuple(float(one == term) for one in ("ed", "rd", "mlm"))
        sums, counts = other.losses()
        torch.testing.assert_close(sums, total, rtol=1e-5, atol=1e-5)
        assert counts == items and all(count > 0 for count in items.values())
        parts += other.gradient()
    torch.testing.assert_close(parts, together, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("lanes_per_forward", [2, 6])
@pytest.mark.parametrize("what", ["no facts", "one entity", "one fact"])
def test_steps_with_nothing_to_compare(what, lanes_per_forward):
    records = random_documents(LANES * LANE_SIZE, seed=1)
    relations = records.layers["relations"]
    if what == "no facts":
        records = records.with_layer("relations", relations.take(np.zeros(0, dtype=int)).__class__(
            relations.values[:0], np.zeros(len(records) + 1, dtype=np.int64)
        ))  # fmt: skip
    elif what == "one fact":
        values = relations.values[:1]
        first = int(np.flatnonzero(relations.lengths)[0])
        records = records.with_layer(
            "relations", type(relations)(values, (np.arange(len(records) + 1) > first).astype(np.int64))
        )
    else:
        entities = records.layers["mention_entities"]
        empty = type(relations)(relations.values[:0], np.zeros(len(records) + 1, dtype=np.int64))
        one = type(entities)(np.full(len(records), 7), np.arange(len(records) + 1))
        records = records.with_layer("mention_entities", type(entities)(entities.values * 0, entities.offsets))
        records = records.with_layer("knowledge_ids", one).with_layer("relations", empty)
    step = Step(records, lanes_per_forward=lanes_per_forward)
    total, items = step.losses()
    assert items["rd"] == 0 and items["ed"] <= 1 and items["mlm"] > 0
    assert total[1].item() == 0 and torch.isfinite(total).all() and torch.isfinite(step.gradient()).all()


def test_documents_of_one_lane_do_not_depend_on_the_others():
    """The same draws for a lane wherever it is computed."""
    step = step_of(0)
    alone = Step(step.records, lanes_per_forward=1)
    for lane in range(LANES):
        batch, place = alone.batches[lane], 0
        assert isinstance(alone.erica.collate, DocumentCollate)
        of_two, place = step.batches[lane // 2], lane % 2
        sequences = step.sequences(of_two)[place * LANE_SIZE : (place + 1) * LANE_SIZE]
        assert sequences == alone.sequences(batch)


def test_the_oracle_on_numbers_by_hand():
    unit = [torch.tensor(vector, dtype=torch.float64) for vector in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0])]
    loss = cross_entropy_of_first([torch.tensor(0.1), torch.tensor(0.05)])
    assert loss.item() == pytest.approx(np.log(1 + np.exp(-1)))
    anchor, positive, negative = Row(0, 0, 1, 0), Row(1, 0, 2, 0), Row(2, 1, 0, 1)
    vectors = [unit, unit, unit]
    cosines = 2 / np.sqrt(2 * 3), 0.0
    expected = np.log(1 + np.exp((cosines[1] - cosines[0]) / 0.05))
    assert relation_discrimination(vectors, anchor, positive, [negative]).item() == pytest.approx(expected)
