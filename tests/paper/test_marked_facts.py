"""CP and MTB of a step, against loops that know the papers' statements only; and that tiny encoders learn them."""

from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid
from torch.utils.flop_counter import FlopCounterMode

from data_shards.errors import UserError
from data_shards.pipeline.pairs import FactTable, choose_pairs, join_pairs
from data_shards.shards.record import UNLINKED
from spe_dist.batches.batch import SIZES
from spe_dist.documents.marked_facts import describe_marked
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.world import World
from spe_dist.methods.erica.compared_facts import METRICS as RELATION_METRICS
from spe_dist.methods.erica.fact_pairs import HEAD_ID, RELATION, TAIL_ID
from spe_dist.methods.mtb.collate import build_collate
from spe_dist.methods.registry import spec_of
from spe_dist.methods.workload import Workload
from spe_dist.recipe import config_from_values
from tests.paper.erica.oracle import cosine, cross_entropy_of_first, documents_of, random_documents
from tests.paper.erica.tiny_erica import Reader, word_pieces
from tests.paper.tiny_spe import PlainEngine, recipe_values
from tests.unit.spe_dist.fact_sentences import fact_sentences

LANES, LANE_SIZE = 4, 6
VOCABULARY = word_pieces().vocab_size
START_HEAD, END_HEAD, START_TAIL, END_TAIL, BLANK_HEAD, BLANK_TAIL = range(VOCABULARY, VOCABULARY + 6)
NO_BLANK = {"cp": {"entity_blank": 0.0}, "mtb": {"mtb": {"entity_blank": 0.0}}}
NO_MLM = {"mlm": {"weight": 0.0}}


def sentence_pairs(count, seed):
    """Records of two sentences, positives and negatives mixed."""
    sentences = fact_sentences(max(100, count // 2), seed)
    table = FactTable.of(sentences, 0)
    pairs = np.concatenate(choose_pairs(table.heads, table.tails, most=30, seed=seed))
    chosen = np.random.default_rng(seed).permutation(pairs)[:count].reshape(-1)
    return join_pairs(sentences.take(table.sentences[chosen]), table.rows[chosen])


class Run:
    """A run's method on some records, without shards."""

    def __init__(self, name, records, *, hidden_size=16, lane_size=LANE_SIZE, **sections):
        values = recipe_values(f"{name}_minilm_cpu")
        sizes = {"name_or_path": None, "layers": 1, "hidden_size": hidden_size, "heads": 2, "max_positions": 256}
        small = {
            "encoder": sizes | {"intermediate_size": 2 * hidden_size, "dropout": 0.0},
            "batch": {"lanes": LANES, "lane_size": lane_size, "lanes_per_forward": LANES},
            "train": {"precision": "fp32"},
        }
        for changes in (small, sections):
            for section, change in changes.items():
                values[section] = values[section] | change if isinstance(change, dict) else change
        torch.manual_seed(0)
        self.records, self.reader = records, Reader(records)
        self.reader.manifest.build |= {"sentences_paired": {}}
        self.config = config_from_values(values, source="test")
        self.method = spec_of(self.config).build(self.config, self.reader, device=torch.device("cpu"))
        self.engine = PlainEngine(self.method.model)

    def batch(self, *, step=0, ids=None):
        size = self.config.batch.lane_size
        ids = np.arange(LANES * size).reshape(LANES, size) if ids is None else ids
        return self.method.collate(self.reader.take(ids), ids, step, range(LANES))

    def losses(self, batch):
        """Sums of the losses of a step of this batch, its metrics, and the items of each term."""
        self.more = self.method.before_step(self.engine, World(), BatchPlan(LANES, 1, LANES, 1), [batch])
        items = [int(n) + self.more.get(term, 0) for n, term in zip(batch.counts, self.method.terms, strict=True)]
        losses, metrics = self.method.forward(self.engine, batch)
        return losses, metrics, dict(zip(self.method.terms, items, strict=True))

    def vectors(self, batch):
        """[state of S1; state of S2] of each sequence that has them, in double precision; None of the others."""
        with torch.no_grad():
            states = self.method.model.encoder.sentence_encoder(batch.packed).double()
        for sequence, start in zip(sequences(batch), batch.packed.sequence_starts.tolist(), strict=False):
            if START_HEAD in sequence:
                yield torch.cat([states[start + sequence.index(one)] for one in (START_HEAD, START_TAIL)])
            else:
                yield None


def sequences(batch):
    pieces = batch.packed.piece_ids.tolist()
    return [pieces[start:end] for start, end in pairwise(batch.packed.sequence_starts.tolist())]


def sentences_and_facts(records):
    """Of each sentence, its document, words, and the facts whose entities are both first mentioned in it."""
    for document in documents_of(records):
        first = {}
        for start, end, entity in document.mentions:
            first.setdefault(entity, (start, end))
        for begin, stop in pairwise([*document.sentence_starts, len(document.words)]):
            facts = [
                fact for fact in document.facts
                if all(begin <= first[entity][0] < first[entity][1] <= stop for entity in fact[:2])
            ]  # fmt: skip
            yield document, (begin, stop), [(fact, first[fact[0]], first[fact[1]]) for fact in facts]


def shown(document, words, head, tail, blank):
    """The sentence as its sequence shows it."""
    pieces = []
    for word in range(*words):
        for (start, _), marker, blank_piece, is_blank in (
            (head, START_HEAD, BLANK_HEAD, blank[0]),
            (tail, START_TAIL, BLANK_TAIL, blank[1]),
        ):
            pieces += [marker, blank_piece][: 1 + is_blank] if word == start else []
        hidden = any(
            is_blank and start <= word < end for (start, end), is_blank in zip((head, tail), blank, strict=True)
        )
        pieces += [] if hidden else document.words[word]
        for (_, end), marker in ((head, END_HEAD), (tail, END_TAIL)):
            pieces += [marker] if word == end - 1 else []
    return pieces


@pytest.mark.parametrize("source", ["documents", "sentences"])
def test_a_fact_of_each_sentence_is_marked_and_its_entities_are_blank_seven_times_in_ten(source):
    count = LANES * LANE_SIZE
    records = random_documents(count, seed=6) if source == "documents" else fact_sentences(count, seed=6)
    run = Run("cp", records, **NO_MLM)
    chosen, blanks = Counter(), Counter()
    known = list(sentences_and_facts(records))
    for step in range(40):
        batch = run.batch(step=step)
        pairs = iter(batch.rd_pairs.tolist())
        for number, ((document, words, facts), sequence) in enumerate(zip(known, sequences(batch), strict=True)):
            if not facts:
                assert sequence[1:-1] == [piece for word in document.words[slice(*words)] for piece in word]
                continue
            row = next(pairs)
            blank = BLANK_HEAD in sequence, BLANK_TAIL in sequence
            matching = [
                fact for fact, head, tail in facts
                if shown(document, words, head, tail, blank) == sequence[1:-1] and fact[2] == row[RELATION]
            ]  # fmt: skip
            assert matching
            ids = [document.knowledge[entity] for entity in matching[0][:2]]
            assert len(matching) > 1 or ids == [row[HEAD_ID], row[TAIL_ID]]
            chosen[number, matching[0]] += len(matching) == 1
            blanks[blank] += 1
        assert next(pairs, None) is None
    total = sum(blanks.values())
    for blank, count in blanks.items():
        expected = total * (0.7 if blank[0] else 0.3) * (0.7 if blank[1] else 0.3)
        assert abs(count - expected) < 4 * expected**0.5
    possible = {(number, fact) for number, (*_, facts) in enumerate(known) for fact, *_ in facts}
    assert {*chosen} <= possible and len({*chosen}) > 0.9 * len(possible)


def test_cp_compares_every_two_facts_of_a_relation_with_all_of_other_relations():
    run = Run("cp", fact_sentences(LANES * LANE_SIZE, seed=1))
    batch = run.batch()
    losses, _, items = run.losses(batch)
    vectors, relations = list(run.vectors(batch)), batch.rd_pairs[:, RELATION].tolist()
    assert len(vectors) == len(relations) == LANES * LANE_SIZE
    expected = [
        cross_entropy_of_first([
            cosine(vectors[anchor], vectors[other])
            for other in (positive, *(i for i, relation in enumerate(relations) if relation != relations[anchor]))
        ])
        for anchor, positive in permutations(range(len(relations)), 2) if relations[anchor] == relations[positive]
    ]  # fmt: skip
    assert items["rd"] == len(expected) > 2 * len(relations)
    assert losses[1].item() == pytest.approx(sum(expected).item(), rel=1e-4)
    assert items["ed"] == losses[0] == 0


def test_mtb_asks_whether_two_sentences_are_about_the_same_entities():
    run = Run("mtb", sentence_pairs(LANES * LANE_SIZE, seed=2))
    batch = run.batch()
    losses, metrics, items = run.losses(batch)
    vectors, expected, right, same = iter(run.vectors(batch)), 0.0, 0, 0
    for document in documents_of(run.records):
        one, other = next(vectors), next(vectors)
        assert len(document.facts) == 2 and UNLINKED not in document.knowledge
        ids = [[document.knowledge[entity] for entity in fact[:2]] for fact in document.facts]
        score = (one * other).sum()
        expected -= logsigmoid(score if ids[0] == ids[1] else -score)
        right += (score > 0) == (ids[0] == ids[1])
        same += ids[0] == ids[1]
    assert 0 < same < items["mtb"] == LANES * LANE_SIZE
    assert losses[0].item() == pytest.approx(float(expected), rel=1e-4)
    assert metrics[:2].tolist() == [right, same]


@pytest.mark.parametrize("name", ["cp", "mtb"])
def test_pieces_to_predict_are_neither_markers_nor_blanks(name):
    records = fact_sentences(LANES * LANE_SIZE, seed=3) if name == "cp" else sentence_pairs(LANES * LANE_SIZE, seed=3)
    run = Run(name, records, mlm={"masked": 0.5})
    plain, masked = Run(name, records, **NO_MLM).batch(), run.batch()
    before, after = plain.packed.piece_ids, masked.packed.piece_ids
    changed = (before != after).nonzero()[:, 0]
    assert {*changed.tolist()} <= {*masked.mlm_pieces.tolist()} and len(changed)
    assert torch.equal(before[masked.mlm_pieces], masked.mlm_targets)
    assert masked.mlm_targets.max() < VOCABULARY
    ordinary = int((before < VOCABULARY).sum()) - 2 * len(sequences(plain))
    assert len(masked.mlm_pieces) / ordinary == pytest.approx(0.5, abs=0.1)
    text = describe_marked(run.method.collate.marking, records.take(np.array([0])), 0, 0, lambda piece: "x")
    assert text.count("[S1]") == text.count("[E2]") == 1 + (name == "mtb")


def train(run, batches, *, rate=1e-2):
    adam = torch.optim.Adam(run.method.model.parameters(), lr=rate)
    for batch in batches:
        losses, _, items = run.losses(batch)
        adam.zero_grad()
        sum(loss / max(count, 1) for loss, count in zip(losses, items.values(), strict=True)).backward()
        adam.step()


def test_a_tiny_encoder_learns_by_cp_what_a_word_tells():
    """On sentences of which it has seen none; chance is what the objective itself logs."""
    run, draw = Run("cp", fact_sentences(600, seed=5), hidden_size=32, **NO_MLM), np.random.default_rng(0)
    drawn = (draw.choice(len(run.records), (LANES, LANE_SIZE)) for _ in range(50))
    train(run, (run.batch(step=step, ids=ids) for step, ids in enumerate(drawn)))
    run.reader.records = fact_sentences(LANES * LANE_SIZE, seed=6)
    *_, items = run.losses(run.batch(step=1000))
    found = dict(zip(RELATION_METRICS, run.method.after_step(run.engine).tolist(), strict=False))
    assert found["rd_found"] / items["rd"] > 0.8 > 5 * found["rd_by_chance"] / items["rd"]


def test_a_tiny_encoder_learns_by_mtb_to_tell_pairs_apart():
    """By a word that tells the relation, in sentences of which it has seen none. Products have shrunk at step 350."""
    run = Run("mtb", sentence_pairs(2000, seed=5), hidden_size=32, mtb={"entity_blank": 0.9}, **NO_MLM)
    draw = np.random.default_rng(0)
    drawn = (draw.choice(len(run.records), (LANES, LANE_SIZE)) for _ in range(900))
    train(run, (run.batch(step=step, ids=ids) for step, ids in enumerate(drawn)), rate=3e-3)
    run.reader.records = sentence_pairs(200, seed=9)
    found = same = 0
    for step in range(8):
        ids = 24 * step + np.arange(24).reshape(LANES, LANE_SIZE)
        _, metrics, _ = run.losses(run.batch(step=1000 + step, ids=ids))
        found, same = found + metrics[0].item(), same + metrics[1].item()
    assert found / 192 > 0.65 > 1.2 * max(same, 192 - same) / 192  # 0.74 when it was written


@pytest.mark.parametrize("name", ["cp", "mtb"])
def test_forward_and_backward_are_counted_to_the_flop(name):
    records = fact_sentences(LANES * LANE_SIZE, 1) if name == "cp" else sentence_pairs(LANES * LANE_SIZE, 1)
    run = Run(name, records, **NO_BLANK[name])  # or sequences would be of unequal length
    batch = run.batch()
    with FlopCounterMode(display=False) as counter:
        losses, _, items = run.losses(batch)
        losses.sum().backward()
    work = Workload(counts=run.more | items, forwards=1, **dict(zip(SIZES, batch.sizes.tolist(), strict=True)))
    assert run.method.model_flops(work) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cp", {"rd": {"na_pairs": 8}}, "set ed.weight and rd.na_pairs"),
        ("cp", {"pooling": "mean"}, "entity_blank has no effect with pooling 'mean'"),
        ("mtb", {"mtb": {"weight": 0.0}, "mlm": {"weight": 0.0}}, "nothing would be trained"),
        ("mtb", {"mlm": {"masked": 0.0}}, "mlm.masked is 0"),
    ],
)
def test_settings_that_contradict_each_other(name, changes, message):
    with pytest.raises(UserError, match=message):
        Run(name, fact_sentences(LANES * LANE_SIZE, seed=1), **changes)


def test_mtb_refuses_sentences_that_are_not_paired():
    run = Run("mtb", sentence_pairs(LANES * LANE_SIZE, seed=1))
    del run.reader.manifest.build["sentences_paired"]
    with pytest.raises(UserError, match="spe shards pair SENTENCES"):
        build_collate(run.config, run.reader)
