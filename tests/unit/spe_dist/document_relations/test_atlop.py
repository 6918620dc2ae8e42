"""ATLOP's head against loops over one pair, one document and one window at a time, and its way through the commands."""

import json
import math
import random
from copy import deepcopy
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from data_shards.annotated.document import Document
from data_shards.errors import UserError
from launcher.cli import dispatch
from spe_dist.document_relations import atlop
from spe_dist.document_relations.atlop import (
    OWN_THRESHOLD,
    GroupedBilinear,
    adaptive_threshold_loss,
    entity_vectors,
    localized_context,
)
from spe_dist.document_relations.atlop_documents import AtlopDocuments
from spe_dist.document_relations.folder import DocumentModelDescription, build_model, load_description
from spe_dist.document_relations.graph import DocumentGraph
from spe_dist.document_relations.model import predict
from spe_dist.documents.document_pieces import DocumentPieces
from spe_dist.documents.marked_pieces import with_markers, with_numbered_markers
from spe_dist.finetuning.loop import describe, finetune
from spe_dist.train.run_log import read_metrics
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.document_relations.tiny import config_in
from tests.unit.spe_dist.documents.tiny_documents import RELATIONS, random_documents, tiny_encoder, word_pieces
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

POSITIONS = 24
WORD_PIECES = word_pieces()
NAMES = tuple(sorted(RELATIONS))
CPU = torch.device("cpu")


@pytest.fixture
def commas(monkeypatch):
    """The debug vocabulary has no `*`."""
    monkeypatch.setattr(atlop, "STAR", ",")


def tiny_model(markers="star", max_labels: int = 2, positions: int = POSITIONS):
    torch.manual_seed(1)
    description = DocumentModelDescription(
        relations=NAMES, head="atlop", entity_size=8, block_size=4, max_labels=max_labels, markers=markers,
        threshold=OWN_THRESHOLD, language="en",
    )  # fmt: skip
    model = build_model(description, tiny_encoder(positions=positions)).eval()
    torch.nn.init.normal_(model.classifier.bilinear.forms.weight)
    return model


def encoded(documents: list[Document], model) -> AtlopDocuments:
    return model.encode([DocumentGraph.of(one, language="en") for one in documents], WORD_PIECES)


def test_the_loss_is_that_of_slow_loops():
    torch.manual_seed(0)
    logits = (3 * torch.randn(40, 6)).requires_grad_()
    targets = (torch.rand(40, 6) < 0.3).float()
    targets[:5], targets[5:9, 1:] = 0, 1  # no relation, and all of them
    targets[:, 0] = ~targets[:, 1:].any(1)
    total = torch.zeros(())
    for row, true in zip(logits, targets.tolist(), strict=True):
        positive = [r for r in range(1, 6) if true[r]]
        negative = [r for r in range(1, 6) if not true[r]]
        for r in positive:
            total = total - torch.log(row[r].exp() / sum(row[q].exp() for q in [*positive, 0]))
        total = total - torch.log(row[0].exp() / sum(row[q].exp() for q in [*negative, 0]))
    loss = adaptive_threshold_loss(logits, targets)
    torch.testing.assert_close(loss, total)
    torch.testing.assert_close(*(torch.autograd.grad(one, logits)[0] for one in (loss, total)))


def test_the_grouped_bilinear_form_is_that_of_slow_loops():
    torch.manual_seed(0)
    forms = GroupedBilinear(12, block_size=4, classes=3)
    heads, tails = torch.randn(2, 5, 12)
    weights = forms.forms.weight.view(3, 3, 4, 4)  # class, block, of the head, of the tail
    expected = torch.zeros(5, 3)
    for n, c in product(range(5), range(3)):
        expected[n, c] = forms.forms.bias[c] + sum(
            heads[n, 4 * block + i] * weights[c, block, i, j] * tails[n, 4 * block + j]
            for block, i, j in product(range(3), range(4), range(4))
        )
    torch.testing.assert_close(forms(heads, tails), expected)


def slow_contexts(attention: torch.Tensor, states: torch.Tensor, pairs: list[list[int]]) -> torch.Tensor:
    """Entities that no window holds together share nothing; 1e-5 as in the published program."""
    rows = [torch.zeros(0, states.shape[1])]
    for head, tail in pairs:
        shared = [(attention[head, :, p] * attention[tail, :, p]).mean() for p in range(len(states))]
        rows.append(sum(w * state for w, state in zip(shared, states, strict=True))[None] / (sum(shared) + 1e-5))
    return torch.cat(rows)


def test_contexts_and_entities_are_those_of_slow_loops():
    torch.manual_seed(0)
    attention, states = torch.randn(4, 3, 7).softmax(2), torch.randn(7, 5)
    pairs = [[0, 1], [3, 2], [1, 0], [2, 2]]
    found = localized_context(attention, states, torch.tensor(pairs))
    torch.testing.assert_close(found, slow_contexts(attention, states, pairs))
    mentions, entities = (50 * torch.randn(6, 5)).requires_grad_(), torch.tensor([0, 0, 0, 1, 2, 2])
    expected = torch.stack([mentions[entities == e].logsumexp(0) for e in range(3)])
    vectors = entity_vectors(mentions, entities, 3)
    torch.testing.assert_close(vectors, expected)
    into = torch.randn(3, 5)
    torch.testing.assert_close(*(torch.autograd.grad((one * into).sum(), mentions)[0] for one in (vectors, expected)))


def test_markers_stand_around_mentions():
    marker = [7, 8]
    for document in random_documents(12, seed=3):
        numbers = {name: number for number, name in enumerate(NAMES)}
        plain = DocumentPieces.of(document, WORD_PIECES, numbers, max_pieces=10_000)
        starts, ends = ({row[column] for row in plain.mentions.tolist()} for column in (1, 2))
        ids, before, after = [], {}, {}
        for place, piece in enumerate([*plain.piece_ids.tolist(), None]):
            ids += marker if place in ends else []
            after[place] = len(ids)
            ids += marker if place in starts else []
            before[place] = len(ids) - len(marker)
            ids += [piece]
        marked = with_markers(plain, np.array(marker))
        assert marked.piece_ids.tolist() == ids[:-1]
        assert marked.mentions.tolist() == [[e, before[s], after[t]] for e, s, t in plain.mentions.tolist()]
        assert marked.sentence_starts.tolist() == [after[start] for start in plain.sentence_starts.tolist()]


def test_numbered_markers_nest_and_stand_for_their_mentions():
    numbers = {name: number for number, name in enumerate(NAMES)}
    for document in random_documents(12, seed=3):
        plain = DocumentPieces.of(document, WORD_PIECES, numbers, max_pieces=10_000)
        marked = with_numbered_markers(plain, first_id=5000, pairs=3)
        ids, mentions = marked.piece_ids.tolist(), marked.mentions.tolist()
        assert [piece for piece in ids if piece < 5000] == plain.piece_ids.tolist()
        firsts = [start for _, start, end in mentions if ids[start] % 2 == 0 and end == start + 1]
        assert len(set(firsts)) == len(mentions) == len(plain.mentions)
        for (entity, place, _), (_, start, end) in zip(mentions, plain.mentions.tolist(), strict=True):
            assert ids[place] == 5000 + 2 * (entity % 3)
            assert sum(piece < 5000 for piece in ids[:place]) == start
            ends = [p for p, piece in enumerate(ids) if piece == ids[place] + 1]
            assert end in [sum(piece < 5000 for piece in ids[:p]) for p in ends]
        for begin, plain_begin in zip(marked.sentence_starts.tolist(), plain.sentence_starts.tolist(), strict=True):
            assert sum(piece < 5000 for piece in ids[:begin]) == plain_begin
            opened = sum((1 if piece % 2 == 0 else -1) for piece in ids[:begin] if piece >= 5000)
            assert opened == 0  # no mention is across sentences


def slow_logits(model, rows: AtlopDocuments, number: int) -> torch.Tensor:
    """One document by plain transformers, window by window, as the published program puts them together."""
    one, special, encoder = rows.documents[number], rows.special, model.sentence_encoder
    ids = [special.cls, *one.pieces.piece_ids.tolist(), special.sep]
    plain = AutoModel.from_config(deepcopy(encoder.model.config), attn_implementation="eager", add_pooling_layer=False)
    plain.eval().load_state_dict(encoder.model.state_dict())
    most = POSITIONS - 2
    windows = -(-(len(ids) - 2) // most) if len(ids) > POSITIONS else 1
    sums, times, attention = torch.zeros(len(ids), 16), torch.zeros(len(ids), 1), torch.zeros(2, len(ids), len(ids))
    for window in range(windows):
        begin = round(window * (len(ids) - 2 - most) / (windows - 1)) if windows > 1 else 0
        pieces = ids[1 + begin : -1][:most]
        with torch.no_grad():
            out = plain(torch.tensor([[special.cls, *pieces, special.sep]]), output_attentions=True)
        kept = [j for j in range(len(pieces) + 2) if 0 < j <= len(pieces) or begin + j in (0, len(ids) - 1)]
        for i in kept:
            sums[begin + i] += out.last_hidden_state[0, i]
            times[begin + i] += 1
            attention[:, begin + i, begin + np.array(kept)] += out.attentions[-1][0, :, i, kept]
    states, attention = sums / times, attention / attention.sum(2, keepdim=True)
    entities = range(len(one.pieces.numbers))
    mentions = [[1 + start for e, start, _ in one.pieces.mentions.tolist() if e == entity] for entity in entities]
    vectors = [states[of_entity].logsumexp(0) for of_entity in mentions]
    attended = [attention[:, of_entity].mean(1) for of_entity in mentions]
    pairs = [[h, t] for h, t in product(entities, entities) if h != t]
    if not pairs:
        return torch.zeros(0, 1 + len(NAMES))
    contexts, head = slow_contexts(torch.stack(attended), states, pairs), model.classifier
    heads, tails = (
        torch.stack([torch.cat([vectors[pair[side]], c]) for pair, c in zip(pairs, contexts, strict=True)])
        for side in (0, 1)
    )
    return head.bilinear(torch.tanh(head.head(heads)), torch.tanh(head.tail(tails)))


@pytest.mark.parametrize("markers", ["star", "none"])
@torch.no_grad()
def test_logits_are_those_of_slow_loops(markers, commas):
    model = tiny_model(markers)
    rows = encoded([Document.of_words([["in"]]), *random_documents(6, seed=4, sentences=7)], model)
    assert {len(one.windows) for one in rows.documents} >= {1, 4}
    assert all(int(one.windows[-1, 1]) == len(one.pieces.piece_ids) for one in rows.documents)
    pairs = [one.all_pairs() for one in rows.documents]
    expected = [slow_logits(model, rows, number) for number in range(len(rows))]
    found = model.logits(rows.batch(np.arange(len(rows)), pairs))
    assert found.std(0).min() > 0.1
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-4, rtol=1e-4)
    told = rows.about_windows(POSITIONS)
    assert "are longer than the encoder's 24 positions: each is read in overlapping windows, " in told


@torch.no_grad()
def test_decisions_are_those_above_the_threshold_and_at_most_two(commas):
    model = tiny_model()
    rows = encoded(random_documents(9, seed=7, sentences=6), model)
    found = predict(model, rows, CPU)
    told = 0
    for number, graph in enumerate(found):
        pairs = rows.documents[number].all_pairs()
        logits = model.logits(rows.batch(np.array([number]), [pairs])).tolist()
        expected = {}
        for (head, tail), row in zip(rows.documents[number].pieces.numbers[pairs].tolist(), logits, strict=True):
            best = sorted(range(1, 1 + len(NAMES)), key=lambda r: -row[r])[:2]
            expected |= {
                (head, tail, NAMES[r - 1]): 1 / (1 + math.exp(row[0] - row[r])) for r in best if row[r] > row[0]
            }
        assert {edge.fact: pytest.approx(edge.score, abs=1e-4) for edge in graph.edges} == expected
        told += len(expected)
    assert 50 < told < 2 * sum(len(one.all_pairs()) for one in rows.documents)


def test_documents_without_entities_pass_through_and_all_weights_have_gradients(commas):
    model = tiny_model().requires_grad_(True)
    for documents in ([Document.of_words([["the"]])], random_documents(3, seed=1)):
        rows = encoded(documents, model)
        pairs = [rows.draw_pairs(row, unrelated=None, seed=1, epoch=0) for row in range(len(rows))]
        assert [len(one) for one in pairs] == [len(one.all_pairs()) for one in rows.documents]
        losses = model(rows.batch(np.arange(len(rows)), pairs))
        losses.losses.sum().backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
    assert losses.losses.item() > 0 and losses.counts.item() == sum(map(len, pairs))
    # The last layer's queries and keys also learn through the contexts, which no state depends on.
    assert all(weight.grad.any() for weight in model.classifier.parameters())


def test_a_tokenizer_without_a_star_is_refused():
    with pytest.raises(UserError, match=r"does not know '\*', which marks mentions: set --model.markers none"):
        encoded([], tiny_model())


def write_rules(path: Path, *, documents: int, seed: int) -> None:
    """Two names around "born" or "in" are related; around "the" they are not, nor are those of other sentences."""
    chance, told = random.Random(seed), []
    for number in range(documents):
        names = chance.sample("abcdefghklmnopqrstuvwxyz", 6)
        verbs = [chance.choice(["born", "in", "the"]) for _ in range(3)]
        told.append(
            {
                "title": str(number),
                "sents": [[names[2 * s], verb, names[2 * s + 1], "."] for s, verb in enumerate(verbs)],
                "vertexSet": [
                    [{"name": name, "sent_id": n // 2, "pos": [2 * (n % 2), 2 * (n % 2) + 1], "type": "X"}]
                    for n, name in enumerate(names)
                ],
                "labels": [
                    {"h": 2 * s, "t": 2 * s + 1, "r": verb, "evidence": [s]}
                    for s, verb in enumerate(verbs)
                    if verb != "the"
                ],
            }
        )
    path.write_text(json.dumps(told))


def test_a_rule_is_learned_kept_and_predicted(tmp_path):
    train, held, vocabulary = (tmp_path / name for name in ("documents.json", "held.json", "vocab.txt"))
    write_rules(train, documents=64, seed=0)
    write_rules(held, documents=20, seed=1)
    vocabulary.write_text(DEBUG_VOCAB.read_text() + "*\n")
    config = config_in(
        tmp_path,
        data={"dev": str(held), "test": str(held)},
        start={"tokenizer": str(vocabulary)},
        encoder={"max_positions": POSITIONS},
        model={"head": "atlop", "entity_size": 32, "block_size": 8},
        pairs={"unrelated": None},
        optimizer={"learning_rate": 3e-3, "heads": 2.0},
        train={"epochs": 32, "batch_size": 16, "first_evaluation": 31, "precision": "fp32", "checkpoint_every": 0},
    )
    result = run_ranks(finetune, 1, config)[0]
    assert result.dev["relation_f1"] > 0.95
    folder = Path(config.run_folder) / "seed-1"
    lines = read_metrics(folder)
    assert lines[-1]["relation_loss"] < 0.2 * lines[0]["relation_loss"] and lines[-1]["relation_accuracy"] > 0.98
    description = load_description(folder / "model")
    assert (description.head, description.markers, description.max_labels) == ("atlop", "star", 4)
    card = (folder / "model" / "README.md").read_text()
    assert "a threshold of its own: the relations above it are predicted, at most 4 of a pair" in card
    assert "20 of 20 documents are longer than the encoder's 24 positions" in (folder / "finetune.log").read_text()
    out = tmp_path / "found.jsonl"
    kept = [json.loads(line) for line in (folder.parent / "predictions" / "seed-1.jsonl").read_text().splitlines()]
    for options, least in ([], 0.5), (["--min-relation-score", "0.9"], 0.9):
        dispatch(["predict", str(folder / "model"), str(held), "--out", str(out), *options])
        found = [json.loads(line) for line in out.read_text().splitlines()]
        facts = [
            [{(e["head"], e["tail"], e["type"]) for e in line["edges"] if e["score"] >= least} for line in told]
            for told in (found, kept)
        ]
        assert facts[0] == facts[1] and sum(map(len, facts[0])) > 10
        assert all(edge["score"] >= least for line in found for edge in line["edges"])


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ({"head": "atlop", "entity_size": 100}, "model.entity_size is 100, which blocks of 64 .* do not divide"),
        ({"distance_size": None}, "model.distance_size is null, and the head erica needs it"),
        ({"markers": "star"}, "model.markers star is for the head atlop"),
        ({"head": "atlop", "markers": "numbered"}, "model.markers numbered is for the head erica"),
        ({"markers": "numbered"}, "model.markers is numbered, but bert was not pre-trained with markers"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, model, complaint):
    with pytest.raises(UserError, match=complaint):
        describe(config_in(tmp_path, model=model))
