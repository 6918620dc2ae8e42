"""ERICA's losses of a step, its draws and its gradient, against `oracle`, which knows the paper's statement only."""

from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest
import torch
import torch.distributed as dist

from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.world import World
from spe_dist.methods.erica.collate import DocumentCollate
from spe_dist.methods.erica.fact_pairs import HEAD, NA, RELATION, SINGLE, TAIL
from spe_dist.methods.erica.footprint import bytes_beside, transfers
from spe_dist.methods.metric_sums import MetricSums
from tests.distributed.ranks import run_ranks
from tests.paper.erica.oracle import (
    Row,
    cross_entropy_of_first,
    entity_discrimination,
    may_be_negative,
    may_be_positive,
    random_documents,
    relation_discrimination,
)
from tests.paper.erica.tiny_erica import LANE_SIZE, LANES, OFF, RELATIONS, TINY_ENCODER, Step, word_pieces

SEEDS = range(6)
KINDS = ("ss", "sc", "cs", "cc")
SPECIAL = word_pieces().special_ids
NAMES = [word_pieces().encode_sentences([name]).pieces.values.tolist() for name in RELATIONS]
HALF = LANE_SIZE // 2


def step_of(seed: int, **settings) -> Step:
    return Step(random_documents(LANES * LANE_SIZE, seed=seed), step=seed, **settings)


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


def rows_of(step: Step, number: int) -> list[Row]:
    """The candidates of relation discrimination of a forward, as the batch has them."""
    batch, documents = step.batches[number], step.documents_of(number)
    first = np.cumsum([0, *(len(document.knowledge) for document in documents)])
    entities, rows = batch.rd_entities.tolist(), []
    for row in batch.rd_pairs.tolist():
        head, tail = entities[row[HEAD]], entities[row[TAIL]]
        document = int(np.searchsorted(first, head, side="right")) - 1
        assert first[document] <= tail < first[document + 1]
        relation = None if row[RELATION] == NA else row[RELATION]
        rows.append(Row(document, head - first[document], tail - first[document], relation))
    return rows


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("most", [0, 3, 32])
def test_candidates_of_relation_discrimination(seed, most):
    step = step_of(seed, rd={"weight": 1.0, "na_pairs": most}, ed=OFF, mlm=OFF)
    for number, batch in enumerate(step.batches):
        rows = rows_of(step, number)
        for index, document in enumerate(step.documents_of(number)):
            own = [row for row in rows if row.document == index]
            assert sorted((r.head, r.tail, r.relation) for r in own if r.relation is not None) == sorted(document.facts)
            unrelated = [(r.head, r.tail) for r in own if r.relation is None]
            assert len(set(unrelated)) == len(unrelated) == min(most, len(document.pairs_of_no_relation))
            assert set(unrelated) <= document.pairs_of_no_relation
        for row, pair in zip(rows, batch.rd_pairs.tolist(), strict=True):
            assert pair[SINGLE] == step.documents_of(number)[row.document].is_single(row.head, row.tail)


def drawn_of_step(step: Step):
    """Rows of the whole step; of every anchor the numbers of its row, its positive and its negatives, as drawn."""
    rows, parts, first_entity, first_document = [], [], 0, 0
    for number, batch in enumerate(step.batches):
        rows += [Row(row.document + first_document, row.head, row.tail, row.relation) for row in rows_of(step, number)]
        part = batch.rd_pairs.numpy().copy()
        part[:, [HEAD, TAIL]] += first_entity
        parts.append(part)
        first_entity += len(batch.rd_entities)
        first_document += len(step.documents_of(number))
    table = np.concatenate(parts)
    draws = step.erica._draw(table, np.full(len(table), -1), step.batches[0].step).draws
    return rows, list(zip(draws.anchors.tolist(), draws.positives.tolist(), draws.negatives.tolist(), strict=True))


def kind(step: Step, row: Row) -> str:
    return "s" if step.documents[row.document].is_single(row.head, row.tail) else "c"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("terms", [KINDS, ("ss",), ("cc",), ("sc", "cs"), ("ss", "cc")])
def test_positives_go_round_in_cycles(seed, terms):
    step = step_of(seed, rd={"weight": 1.0, "terms": terms}, ed=OFF, mlm=OFF)
    rows, drawn = drawn_of_step(step)
    kinds = {one for term in terms for one in term}
    takes_part = [i for i, row in enumerate(rows) if row.relation is not None and kind(step, row) in kinds]
    following = {anchor: positive for anchor, positive, _ in drawn}
    assert len(following) == len(drawn) and len(set(following.values())) == len(drawn)
    for anchor, positive in following.items():
        assert may_be_positive(rows[anchor], rows[positive])
        assert kind(step, rows[anchor]) + kind(step, rows[positive]) in terms
        assert {anchor, positive} <= set(takes_part)
    # Closing the paths that the anchors make must be possible with the rest, and gives nothing that is allowed where
    # a relation lacks a single one.
    for relation in range(len(RELATIONS)):
        of_relation = [i for i in takes_part if rows[i].relation == relation]
        without = [i for i in of_relation if i not in following]
        unreached = [i for i in of_relation if i not in following.values()]
        assert len(without) == len(unreached)
        if len(of_relation) > 1 and len(without) == 1:
            one, other = rows[without[0]], rows[unreached[0]]
            pair = kind(step, one) + kind(step, other)
            assert one is other or not may_be_positive(one, other) or pair not in terms


@pytest.mark.parametrize("seed", SEEDS)
def test_facts_without_a_positive_are_few(seed):
    """The next one in a random cycle of n is one of the n - 1 others with equal chance."""
    lacking, expected = 0, 0.0
    for number in range(40):
        step = Step(random_documents(LANES * LANE_SIZE, seed=seed), step=number, ed=OFF, mlm=OFF)
        rows, drawn = drawn_of_step(step)
        facts = [row for row in rows if row.relation is not None]
        lacking += len(facts) - len(drawn)
        for row in facts:
            others = [other for other in facts if other is not row and other.relation == row.relation]
            expected += sum(not may_be_positive(row, other) for other in others) / len(others) if others else 1
    assert abs(lacking - expected) < 5 * expected**0.5


def losses_of(step: Step, negatives: int | str) -> dict[str, float]:
    """The oracle's sum of losses over the anchors, of each kind of anchor and positive."""
    rows, drawn = drawn_of_step(step)
    states = [of for batch in step.batches for of in step.states(batch)]
    vectors = [document.entity_vectors(of) for document, of in zip(step.documents, states, strict=True)]
    sums = dict.fromkeys(KINDS, 0.0)
    for anchor, positive, columns in drawn:
        one = rows[anchor]
        others = rows if negatives == "all" else [rows[column] for column in columns]
        allowed = [other for other in others if may_be_negative(one, other, step.documents)]
        loss = relation_discrimination(vectors, one, rows[positive], allowed).item()
        sums[kind(step, one) + kind(step, rows[positive])] += loss
    return sums


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("negatives", [1, 64, "all"])
@pytest.mark.parametrize("lanes_per_forward", [2, 6])
def test_relation_discrimination_of_a_step(seed, negatives, lanes_per_forward):
    settings = {"weight": 1.0, "negatives": negatives}
    step = step_of(seed, rd=settings, ed=OFF, mlm=OFF, lanes_per_forward=lanes_per_forward)
    total, items = step.losses()
    expected = losses_of(step, negatives)
    assert sum(expected.values()) > 0
    assert total[1].item() == pytest.approx(sum(expected.values()), rel=2e-4)
    assert items["rd"] == len(drawn_of_step(step)[1])


@pytest.mark.parametrize("term", KINDS)
def test_each_term_of_relation_discrimination(term):
    for seed in SEEDS:
        step = step_of(seed, rd={"weight": 1.0, "negatives": "all", "terms": [term]}, ed=OFF, mlm=OFF)
        total, items = step.losses()
        expected = losses_of(step, "all")
        assert all(expected[other] == 0 for other in KINDS if other != term)
        assert total[1].item() == pytest.approx(expected[term], rel=2e-4)
        assert (items["rd"] > 0) == (expected[term] > 0)


def test_negatives_are_drawn_uniformly_from_all_candidates():
    step = step_of(3, rd={"weight": 1.0, "negatives": 512}, ed=OFF, mlm=OFF)
    rows, drawn = drawn_of_step(step)
    counts = np.bincount([column for *_, columns in drawn for column in columns], minlength=len(rows))
    expected = counts.sum() / len(rows)
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < len(rows) + 5 * (2 * len(rows)) ** 0.5


@pytest.mark.parametrize("scope", ["step", "lane"])
def test_the_gradient_of_a_step_is_that_of_the_whole_loss(scope):
    """However many forwards: anchors, positives and negatives all get their gradient."""
    settings = {"weight": 1.0, "negatives": "all", "scope": scope}
    gradients = []
    for lanes_per_forward in (6, 3, 2, 1):
        step = step_of(4, rd=settings, ed=OFF, mlm=OFF, lanes_per_forward=lanes_per_forward)
        step.losses()
        gradients.append(step.gradient())
    assert gradients[0].abs().max() > 1e-3
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-3, atol=1e-5)
    if scope == "step":
        torch.testing.assert_close(gradients[0], gradient_of_the_oracle(step), rtol=1e-3, atol=1e-5)


def gradient_of_the_oracle(step: Step) -> torch.Tensor:
    rows, drawn = drawn_of_step(step)
    model, vectors = step.erica.model, []
    model.zero_grad()
    for number, batch in enumerate(step.batches):
        states = model.encoder.sentence_encoder(batch.packed)
        ends = batch.packed.sequence_starts[1:].tolist()
        for document, end in zip(step.documents_of(number), ends, strict=True):
            vectors.append(document.entity_vectors(states[end - 1 - len(document.pieces) : end - 1]))
    losses = [
        relation_discrimination(
            vectors, rows[anchor], rows[positive],
            [other for other in rows if may_be_negative(rows[anchor], other, step.documents)],
        )
        for anchor, positive, _ in drawn
    ]  # fmt: skip
    (sum(losses) / len(losses)).backward()
    return step.gradient()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lane_alone_compares_its_own_facts(seed):
    step = step_of(seed, rd={"weight": 1.0, "negatives": "all", "scope": "lane"}, ed=OFF, mlm=OFF)
    total, items = step.losses()
    expected, anchors = 0.0, 0
    for number, lanes in enumerate(step.forwards):
        batch, rows, documents = step.batches[number], rows_of(step, number), step.documents_of(number)
        draws = step.erica._draw(batch.rd_pairs.numpy(), batch.rd_pairs[:, 6].numpy(), seed).draws
        vectors = [d.entity_vectors(of) for d, of in zip(documents, step.states(batch), strict=True)]
        for anchor, positive in zip(draws.anchors.tolist(), draws.positives.tolist(), strict=True):
            lane = rows[anchor].document // LANE_SIZE
            assert may_be_positive(rows[anchor], rows[positive]) and rows[positive].document // LANE_SIZE == lane
            others = [other for other in rows if other.document // LANE_SIZE == lane]
            others = [other for other in others if may_be_negative(rows[anchor], other, documents)]
            expected += relation_discrimination(vectors, rows[anchor], rows[positive], others).item()
            anchors += 1
        assert len(lanes) == 2
    assert items["rd"] == anchors and total[1].item() == pytest.approx(expected, rel=2e-4)


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


def gradient_on_this_rank(world_size: int, lanes_per_forward: int) -> tuple[list[float], float, int]:
    records = random_documents(LANES * LANE_SIZE, seed=4)
    settings = {"weight": 1.0, "negatives": 64}
    step = Step(records, step=4, lanes_per_forward=lanes_per_forward, rd=settings, ed=OFF, mlm=OFF)
    rank = dist.get_rank() if world_size > 1 else 0
    step.plan = BatchPlan(LANES, LANE_SIZE, lanes_per_forward, world_size=world_size)
    step.batches = [step._batch(lanes, 4) for lanes in step.plan.forwards(rank)]
    erica, engine = step.erica, step.engine
    counts = erica.before_step(engine, World(rank=rank, size=world_size), step.plan, step.batches)
    loss = torch.zeros(())
    for batch in step.batches:
        losses, _ = erica.forward(engine, batch)
        losses[1].backward()
        loss += losses[1].detach()
    return step.gradient().tolist(), loss.item(), counts["rd"]


@pytest.mark.distributed
@pytest.mark.parametrize(("world_size", "lanes_per_forward"), [(2, 3), (2, 1), (3, 2), (4, 1)])
def test_ranks_together_have_the_gradient_of_one(world_size, lanes_per_forward):
    gradient, loss, anchors = gradient_on_this_rank(1, 6)
    of_ranks = run_ranks(gradient_on_this_rank, world_size, world_size, lanes_per_forward, timeout=90)
    gradients, losses, counts = zip(*of_ranks, strict=True)
    assert sum(counts) == anchors and sum(losses) == pytest.approx(loss, rel=1e-5)
    together = torch.tensor(gradients).sum(dim=0)
    torch.testing.assert_close(together, torch.tensor(gradient), rtol=1e-3, atol=1e-4)


def test_the_oracle_on_numbers_by_hand():
    unit = [torch.tensor(vector, dtype=torch.float64) for vector in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0])]
    loss = cross_entropy_of_first([torch.tensor(0.1), torch.tensor(0.05)])
    assert loss.item() == pytest.approx(np.log(1 + np.exp(-1)))
    anchor, positive, negative = Row(0, 0, 1, 0), Row(1, 0, 2, 0), Row(2, 1, 0, 1)
    vectors = [unit, unit, unit]
    cosines = 2 / np.sqrt(2 * 3), 0.0
    expected = np.log(1 + np.exp((cosines[1] - cosines[0]) / 0.05))
    assert relation_discrimination(vectors, anchor, positive, [negative]).item() == pytest.approx(expected)


def test_the_documents_have_what_matters():
    step = step_of(0)
    documents = [document for seed in SEEDS for document in step_of(seed).documents]
    assert any(not document.facts for document in documents)
    assert any(len(document.knowledge) == 1 for document in documents)
    several_tails = [
        document for document in documents
        if any(
            (a[0], a[2]) == (b[0], b[2]) and a != b for a, b in product(document.facts, repeat=2)
        )
    ]  # fmt: skip
    assert len(several_tails) > 10
    rows, _ = drawn_of_step(step)
    assert {kind(step, row) for row in rows} == {"s", "c"}


@pytest.mark.parametrize("lanes_per_forward", [6, 2, 1])
def test_what_is_compared_is_what_is_trained_with_dropout_too(lanes_per_forward):
    """The vectors that the step's pairs are made of, and those that get their gradient, have the same dropout."""
    step = step_of(4, lanes_per_forward=lanes_per_forward, encoder=TINY_ENCODER | {"dropout": 0.3})
    compared, trained = [], []
    encoder = step.erica.model.encoder
    encoder.register_forward_hook(lambda _, args, output: compared.append(output[1].detach()[args[0].rd_entities]))
    step.erica.before_step(step.engine, World(), step.plan, step.batches)
    before = list(compared)
    for batch in step.batches:
        compared.clear()
        step.erica.forward(step.engine, batch)
        trained += compared
    assert len(before) == len(step.batches)
    assert len(trained) == (0 if lanes_per_forward == 6 else len(before))  # one forward is not computed again
    for one, other in zip(before, trained, strict=lanes_per_forward != 6):
        assert torch.equal(one, other)
