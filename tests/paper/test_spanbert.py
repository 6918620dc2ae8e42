"""Masked language modelling and SpanBERT of a step, against loops that know the papers' statement only."""

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, layer_norm
from torch.utils.flop_counter import FlopCounterMode

from data_shards.errors import UserError
from spe_dist.batches.batch import SIZES
from spe_dist.methods.mlm.config import TERMS
from spe_dist.methods.mlm.method import build_masked_language
from spe_dist.methods.mlm.show import describe
from spe_dist.methods.mlm.span_boundary import MOST_TARGETS
from spe_dist.methods.mlm.span_masking import hide_spans
from spe_dist.methods.workload import Workload
from spe_dist.recipe import config_from_values
from tests.paper.tiny_spe import LANE_SIZE, LANES, SENTENCES, Reader, recipe_values
from tests.unit.spe_dist.batches.sentences import (
    SPECIAL,
    Sentence,
    excess,
    flat,
    random_sentences,
    records_of,
    word_starts,
)

VOCABULARY = Reader.manifest.tokenizer.vocab_size
PIECES, SPANS = ({"masking": {"masked": 0.3, "unit": unit}} for unit in ("pieces", "spans"))
MLM_ONLY = PIECES | {"sbo": {"weight": 0.0}}


def build(**sections):
    """The recipe of SpanBERT, smaller; settings of sections may differ."""
    values = recipe_values("spanbert_minilm_cpu")
    sizes = {"layers": 1, "hidden_size": 16, "heads": 2, "intermediate_size": 24, "max_positions": 300, "dropout": 0.0}
    small = {
        "encoder": sizes | {"name_or_path": None},
        "batch": {"lanes": LANES, "lane_size": LANE_SIZE},
        "sbo": {"position_size": 6},
    }
    for changes in (small, sections):
        for section, change in changes.items():
            values[section] = values[section] | change
    torch.manual_seed(0)
    return build_masked_language(config_from_values(values, source="test"), Reader(), device=torch.device("cpu"))


def batch_of(method, sentences, lanes, *, step=0):
    ids = np.arange(len(sentences)).reshape(len(lanes), -1)
    return method.collate(records_of(sentences), ids, step, lanes)


def hidden_by_hand(sentence: Sentence, uniforms: np.ndarray, *, masked: float, p: float, longest: int) -> set[int]:
    """Places of hidden pieces: spans of words from words in random order, until the budget is spent."""
    mass = [p * (1 - p) ** (length - 1) for length in range(1, longest + 1)]
    hidden: set[int] = set()
    starts = [*word_starts(sentence), len(flat(sentence))]
    for word in sorted(range(len(sentence)), key=lambda word: uniforms[word, 0]):
        if starts[word] in hidden:
            continue
        length = next(n for n in range(1, longest + 1) if uniforms[word, 1] < sum(mass[:n]) / sum(mass) or n == longest)
        for place in range(starts[word], starts[min(word + length, len(sentence))]):
            if len(hidden) < math.ceil(masked * starts[-1]):
                hidden.add(place)
    return hidden


def runs(places: set[int]) -> list[list[int]]:
    """Places side by side, as one span each."""
    found: list[list[int]] = []
    for place in sorted(places):
        if found and found[-1][-1] == place - 1:
            found[-1].append(place)
        else:
            found.append([place])
    return found


@pytest.mark.parametrize("masked", [0.0, 0.15, 0.6])
def test_spans_are_drawn_until_the_budget_is_spent(masked):
    sentences = random_sentences(150, seed=1, least=1)
    uniforms = np.random.default_rng(0).random((sum(map(len, sentences)), 3))
    drawn = hide_spans(records_of(sentences), uniforms, masked=masked, geometric_p=0.2, max_words=10)
    expected, inside, words, pieces = [], [], 0, 0
    for sentence in sentences:
        here = uniforms[words : words + len(sentence)]
        places = hidden_by_hand(sentence, here, masked=masked, p=0.2, longest=10)
        expected += [[pieces + place for place in run] for run in runs(places)]
        inside += [run[0] > 0 and run[-1] < len(flat(sentence)) - 1 for run in runs(places)]
        words, pieces = words + len(sentence), pieces + len(flat(sentence))
    of_spans = [drawn.pieces[drawn.spans == span].tolist() for span in range(len(drawn.starts))]
    assert of_spans == expected
    assert [list(range(*ends)) for ends in zip(drawn.starts, drawn.ends, strict=True)] == expected
    assert drawn.with_boundaries(records_of(sentences)).tolist() == inside
    assert not masked or 0 < sum(inside) < len(inside)


def test_a_span_begins_at_any_word_with_the_same_chance():
    words, count = 20, 1000
    uniforms = np.random.default_rng(3).random((words * count, 3))
    sentence = [[5], [6, 7, 8]] * (words // 2)
    drawn = hide_spans(records_of([sentence] * count), uniforms, masked=0.01, geometric_p=0.2, max_words=10)
    starts = np.searchsorted(word_starts(sentence), drawn.starts % len(flat(sentence)))
    assert excess(np.bincount(starts, minlength=words), [count / words] * words) < 4


@pytest.mark.parametrize("unit", ["pieces", "spans"])
def test_pieces_are_hidden_as_the_papers_hide_them(unit):
    method, kinds, of = build(masking={"masked": 0.15, "unit": unit}, sbo={"weight": 0.0}), Counter(), 0
    sentences = random_sentences(60, seed=4, least=20)
    for step in range(20):
        drawn = method.collate.draw(records_of(sentences), step, range(20))
        before, shown = drawn.records.pieces.values, drawn.masked.piece_ids
        chosen = np.isin(np.arange(len(before)), drawn.masked.pieces)
        assert (shown[~chosen] == before[~chosen]).all()
        of += len(before)
        spans = [[place] for place in drawn.masked.pieces] if drawn.spans is None else [
            list(range(*ends)) for ends in zip(drawn.spans.starts, drawn.spans.ends, strict=True)
        ]  # fmt: skip
        for places in spans:
            masked, same = (shown[places] == SPECIAL.mask).all(), (shown[places] == before[places]).all()
            kinds["masked" if masked else "kept" if same else "replaced"] += 1
        kinds["pieces"] += len(drawn.masked.pieces)
        if unit == "spans":
            offsets = drawn.records.pieces.offsets
            counts = [int(chosen[a:b].sum()) for a, b in pairwise(offsets.tolist())]
            assert counts == [math.ceil(0.15 * length) for length in drawn.records.pieces.lengths]
    if unit == "pieces":
        assert abs(kinds["pieces"] - 0.15 * of) < 5 * (0.15 * of) ** 0.5
    total = kinds["masked"] + kinds["replaced"] + kinds["kept"]
    # A replaced piece is itself or [MASK] in one of VOCABULARY draws each.
    for kind, share in (("masked", 0.8), ("replaced", 0.1), ("kept", 0.1)):
        slack = 0.1 / VOCABULARY * total
        assert abs(kinds[kind] - share * total) < slack + 5 * (share * total) ** 0.5, kinds


@pytest.mark.parametrize("sections", [MLM_ONLY, SPANS, SPANS | {"mlm": {"weight": 0.0}}])
def test_losses_and_gradients_are_those_of_a_loop(sections):
    method, lanes = build(**sections), range(LANES)
    batch = batch_of(method, SENTENCES, lanes)
    hidden = set(method.collate.draw(records_of(SENTENCES), 0, lanes).masked.pieces.tolist())
    losses, found = method.model(batch)
    (losses / batch.counts.clamp(min=1)).sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in method.model.named_parameters()}
    method.model.zero_grad()

    model, mlm, sbo, begin = method.model, [], [], 0
    states = model.encoder.sentence_encoder(batch.packed)

    def block(inputs, part):
        linear, norm = part.linear, part.norm
        hidden = gelu(linear.weight @ inputs + linear.bias)
        return layer_norm(hidden, hidden.shape, norm.weight, norm.bias, eps=norm.eps)

    def scored(vector, decoder, target):
        logits = model.encoder.sentence_encoder.word_embeddings.weight @ vector + decoder.bias
        return -logits.log_softmax(0)[target], bool(logits.argmax() == target)

    for number, sentence in enumerate(SENTENCES):
        pieces = flat(sentence)
        at = begin + 2 * number + 1  # in the pack, of the sentence's first piece: behind its [CLS]
        for run in runs({place - begin for place in hidden if begin <= place < begin + len(pieces)}):
            for place in run:
                if method.config.mlm.weight:
                    mlm.append(scored(block(states[at + place], model.mlm.block), model.mlm.decoder, pieces[place]))
                touches = run[0] == 0 or run[-1] == len(pieces) - 1
                if method.config.sbo.weight and not touches and place - run[0] < MOST_TARGETS:
                    position = model.sbo.positions.weight[place - run[0]]
                    vector = torch.cat([states[at + run[0] - 1], states[at + run[-1] + 1], position])
                    vector = block(block(vector, model.sbo.blocks[0]), model.sbo.blocks[1])
                    sbo.append(scored(vector, model.sbo.decoder, pieces[place]))
        begin += len(pieces)
    # MLM has targets without its loss, too: counts are of items to divide by.
    assert batch.counts.tolist() == [len(hidden), len(sbo)]
    loops = [torch.stack([loss for loss, _ in of]).sum() if of else states.sum() * 0 for of in (mlm, sbo)]
    torch.testing.assert_close(losses, torch.stack(loops), rtol=1e-5, atol=1e-5)
    assert found.tolist() == [sum(right for _, right in of) for of in (mlm, sbo)]
    (torch.stack(loops) / batch.counts.clamp(min=1)).sum().backward()
    assert all(len(of) > 20 for of, weight in zip((mlm, sbo), method.term_weights, strict=True) if weight)
    for name, parameter in method.model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-6)


def test_long_spans_have_targets_up_to_the_twentieth_and_ends_of_records_are_no_boundaries():
    sentences = [[[5]] * 60 for _ in range(LANE_SIZE * 60)]
    batch = batch_of(build(masking={"masked": 0.93, "unit": "spans"}), sentences, range(60))
    assert set(batch.sbo_positions.tolist()) == set(range(MOST_TARGETS))
    assert max(Counter(batch.sbo_boundaries[:, 0].tolist()).values()) == MOST_TARGETS
    shown = batch.packed.piece_ids[batch.sbo_boundaries]
    assert not torch.isin(shown, torch.tensor([SPECIAL.cls, SPECIAL.sep])).any()
    batch = batch_of(build(masking={"masked": 0.99, "unit": "spans"}), sentences, range(60))
    assert batch.counts.tolist() == [len(sentences) * 60, 0]  # each is one span, whole


@pytest.mark.parametrize("sections", [MLM_ONLY, SPANS])
def test_a_lane_is_the_same_wherever_it_is_computed(sections):
    method = build(**sections)
    together, begin = batch_of(method, SENTENCES, range(LANES), step=3), 0
    digests = torch.zeros(2, dtype=torch.int64)
    for lane in range(LANES):
        rows = slice(lane * LANE_SIZE, (lane + 1) * LANE_SIZE)
        ids = np.arange(LANES * LANE_SIZE)[rows][None]
        alone = method.collate(records_of(SENTENCES[rows]), ids, 3, [lane])
        pieces = alone.packed.piece_ids
        assert torch.equal(pieces, together.packed.piece_ids[begin : begin + len(pieces)])
        begin, digests = begin + len(pieces), digests + alone.digests
    assert torch.equal(digests, together.digests)
    other = method.collate(records_of(SENTENCES[:LANE_SIZE]), np.arange(LANE_SIZE)[None], 4, [0])
    assert not torch.equal(other.packed.piece_ids, together.packed.piece_ids[: len(other.packed.piece_ids)])
    empty = method.collate(records_of([]), np.zeros((0, LANE_SIZE), dtype=np.int64), 3, [])
    losses, found = method.model(empty)
    losses.sum().backward()
    assert losses.tolist() == found.tolist() == [0, 0] and empty.counts.tolist() == [0, 0]


@pytest.mark.parametrize("sections", [MLM_ONLY, SPANS, SPANS | {"mlm": {"weight": 0.0}}])
def test_forward_and_backward_are_counted_to_the_flop(sections):
    method = build(**sections)
    sentences = [[[5, 6], [7], [8, 9, 10]] * 4] * LANE_SIZE  # of other lengths a CPU computes more attention
    batch = batch_of(method, sentences, [0])
    with FlopCounterMode(display=False) as counter:
        method.model(batch)[0].sum().backward()
    counts = dict(zip(TERMS, batch.counts.tolist(), strict=True))
    work = Workload(counts=counts, forwards=1, **dict(zip(SIZES, batch.sizes.tolist(), strict=True)))
    assert method.model_flops(work) == counter.get_total_flops()
    assert counts["sbo"] > 0 or not method.config.sbo.weight


def test_a_person_is_shown_what_is_hidden_and_between_which_pieces():
    record, word = records_of([[[5], [6, 7], [8]] * 5]), "{}".format
    spans = build(masking={"masked": 0.15, "unit": "spans"}).collate
    shown = describe(spans, record, 1, 0, word)
    drawn = replace(spans, lane_size=1).draw(record, 1, [0])
    assert "15 words, 20 pieces" in shown and shown.count("span of") == len(drawn.spans.starts)
    for start, end in zip(drawn.spans.starts, drawn.spans.ends, strict=True):
        ids = record.pieces.values
        sides = f" between {ids[start - 1]} and {ids[end]}" if start > 0 and end < 20 else ""
        assert f"span of {end - start} pieces{sides}: {' '.join(map(str, ids[start:end]))}" in shown
    pieces = build(**MLM_ONLY).collate
    chosen = replace(pieces, lane_size=1).draw(record, 1, [0]).masked.pieces
    expected = ", ".join(str(record.pieces.values[place]) for place in chosen)
    assert describe(pieces, record, 1, 0, word).endswith(f"to predict: {expected}")


def test_settings_that_train_nothing_are_refused():
    for sections, message in (
        ({"mlm": {"weight": 0.0}, "sbo": {"weight": 0.0}}, "mlm.weight and sbo.weight are both 0"),
        ({"masking": {"masked": 0.0}}, "masking.masked is 0"),
        ({"masking": {"unit": "pieces"}}, "masking.unit is pieces, which have no boundaries"),
    ):
        with pytest.raises(UserError, match=message):
            build(**sections)
