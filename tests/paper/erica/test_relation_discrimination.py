"""Relation discrimination of a whole step, against the definition: candidates, positives, negatives, loss, gradient."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.distributed as dist

from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.world import World
from spe_dist.methods.erica.fact_pairs import HEAD, SINGLE, TAIL
from tests.distributed.ranks import run_ranks
from tests.paper.erica.oracle import (
    Row,
    may_be_negative,
    may_be_positive,
    random_documents,
    relation_discrimination,
)
from tests.paper.erica.tiny_erica import (
    LANE_SIZE,
    LANES,
    OFF,
    RELATIONS,
    SEEDS,
    TINY_ENCODER,
    Step,
    rows_of,
    step_of,
)

KINDS = ("ss", "sc", "cs", "cc")


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
