"""The paper's Figure 6 (MoCo for span pairs), with its misprint put right."""

import pytest
import torch

from spe_dist.engine.world import World
from spe_dist.methods.metric_sums import MetricSums
from tests.paper.tiny_spe import LANE_SIZE, LANES, build_spe, forwards_of_step

G = LANES * LANE_SIZE
MASK = 3


def run_step(spe, engine, *, step=0):
    plan, batches = forwards_of_step(spe, step=step)
    for batch in batches:
        spe.forward(engine, batch)
    return plan, batches


def move_weights(spe):
    with torch.no_grad():
        for parameter in spe.model.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_the_momentum_encoder_covers_what_makes_keys_and_starts_as_a_copy():
    spe, _ = build_spe()
    query = dict(spe.model.encoder.named_parameters())
    keys = spe.momentum_encoder.state()
    assert {name.split(".")[0] for name in keys} == {"sentence_encoder", "span_encoder", "pair_encoder", "head"}
    assert keys.keys() == query.keys()
    assert all(torch.equal(keys[name], query[name]) for name in query)
    heads = {name.split(".")[0] for name, _ in spe.model.named_parameters()} - {"encoder"}
    assert heads == {"tbo", "spo"}  # trained, but without a slow copy


def test_the_key_pass_sees_the_very_input_of_the_queries_permuted_and_masked():
    spe, engine = build_spe()
    seen = []
    spe.momentum_encoder.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    _, batches = run_step(spe, engine)
    assert [id(batch) for batch in seen] == [id(batch) for batch, _, _ in engine.calls] == [id(b) for b in batches]
    for batch in batches:
        assert batch.counts.min() > 0  # there are hidden pieces and permuted spans in both views
        assert (batch.packed.piece_ids[batch.tbo_anchors + batch.tbo_offsets] == MASK).all()


def test_keys_of_an_unchanged_encoder_are_the_queries():
    spe, engine = build_spe()
    _, (batch, *_) = forwards_of_step(spe)
    spe.forward(engine, batch)
    torch.testing.assert_close(engine.calls[0][1], spe.model.encoder(batch).detach())


def test_queries_and_keys_have_length_1():
    spe, _ = build_spe()
    _, (batch, *_) = forwards_of_step(spe)
    for vectors in (spe.model.encoder(batch), spe.momentum_encoder.encode(batch)):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4 * LANE_SIZE))


def test_negatives_of_a_step_are_the_queue_as_it_stood_at_its_start():
    spe, engine = build_spe()
    expected = torch.zeros(0, 16), torch.zeros(0, 16)
    for step in range(4):
        engine.calls.clear()
        plan, _ = run_step(spe, engine, step=step)
        assert len(engine.calls) == 3
        for _, _, negatives in engine.calls:
            assert torch.equal(negatives.pair_keys, expected[0])
            assert torch.equal(negatives.context_keys, expected[1])
        spe.before_last_backward(World(), plan)
        spe.after_step(engine)
        queue = spe.queue.negatives()
        expected = queue.pair_keys.clone(), queue.context_keys.clone()
        assert len(queue.pair_keys) == min(40, G * (step + 1))


def test_the_steps_own_keys_are_enqueued_in_order_of_records():
    spe, engine = build_spe()
    plan, _ = run_step(spe, engine)
    keys = [keys for _, keys, _ in engine.calls]
    spe.before_last_backward(World(), plan)
    spe.after_step(engine)
    queue = spe.queue.negatives()
    assert torch.equal(queue.pair_keys, torch.cat([part[: len(part) // 2] for part in keys]))
    assert torch.equal(queue.context_keys, torch.cat([part[len(part) // 2 :] for part in keys]))


def test_the_accuracy_of_a_step_is_over_its_own_keys_and_no_others():
    spe, engine = build_spe()
    queries = []
    spe.model.register_forward_hook(lambda _, __, outputs: queries.append(outputs[2]))
    for step in range(3):
        queries.clear()
        engine.calls.clear()
        plan, _ = run_step(spe, engine, step=step)
        by_view = [torch.stack(part.chunk(2)) for part in queries]
        keys = torch.cat([torch.stack(keys.chunk(2)) for _, keys, _ in engine.calls], dim=1)
        similarity = torch.cat(by_view, dim=1) @ keys.flip(0).transpose(1, 2)
        assert similarity.shape == (2, G, G)
        found = (similarity.argmax(dim=2) == torch.arange(G)).sum() / 2
        spe.before_last_backward(World(), plan)
        assert spe.after_step(engine).tolist() == [float(found)]
        move_weights(spe)
    report = spe.report(
        MetricSums(
            dict.fromkeys(spe.terms, 0.0),
            dict.fromkeys(spe.terms, G),
            dict.fromkeys((*spe.metrics, *spe.step_metrics), G / 2),
        )
    )
    assert (report["cspo_step_accuracy"], report["cspo_step_chance"]) == (0.5, 1 / G)


def test_the_momentum_encoder_moves_once_per_step_towards_the_new_weights():
    spe, engine = build_spe(cspo={"momentum": 0.75})
    before = {name: key.clone() for name, key in spe.momentum_encoder.state().items()}
    plan, _ = run_step(spe, engine)
    move_weights(spe)
    spe.before_last_backward(World(), plan)
    spe.after_step(engine)
    query = dict(spe.model.encoder.named_parameters())
    for name, key in spe.momentum_encoder.state().items():
        torch.testing.assert_close(key, 0.75 * before[name] + 0.25 * query[name].detach())


def test_the_positive_of_a_pair_view_is_the_momentum_encoders_context_view():
    spe, engine = build_spe()
    plan, (batch, *_) = forwards_of_step(spe)
    spe.forward(engine, batch)
    spe.before_last_backward(World(), plan_of_one_forward(plan))
    spe.after_step(engine)
    move_weights(spe)
    losses, _ = spe.forward(engine, batch)
    queries, (_, keys, negatives) = spe.model.encoder(batch), engine.calls[-1]
    pairs, contexts = queries.chunk(2)
    pair_keys, context_keys = keys.chunk(2)
    total = 0.0
    for row in range(len(pairs)):
        for query, positive, queue in (
            (pairs[row], context_keys[row], negatives.context_keys),
            (contexts[row], pair_keys[row], negatives.pair_keys),
        ):
            logits = torch.stack([query @ positive, *(queue @ query)]) / 0.2
            total += (torch.logsumexp(logits, 0) - logits[0]) / 2
    torch.testing.assert_close(losses[4], total, rtol=1e-4, atol=1e-4)
    assert total > 0.1


def plan_of_one_forward(plan):
    return type(plan)(lanes=2, lane_size=LANE_SIZE, lanes_per_forward=2, world_size=1)


def test_keys_carry_no_gradient_into_the_momentum_encoder():
    spe, engine = build_spe()
    _, (batch, *_) = forwards_of_step(spe)
    losses, _ = spe.forward(engine, batch)
    losses.sum().backward()
    assert all(key.grad is None for key in spe.momentum_encoder.state().values())
    assert any(parameter.grad.any() for parameter in spe.model.encoder.parameters())


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_keys_are_made_without_dropout(dropout):
    spe, _ = build_spe(heads_dropout=dropout, encoder={"dropout": dropout})
    _, (batch, *_) = forwards_of_step(spe)
    spe.model.train()
    assert torch.equal(spe.momentum_encoder.encode(batch), spe.momentum_encoder.encode(batch))
    assert torch.equal(spe.model.encoder(batch), spe.model.encoder(batch)) == (dropout == 0)
