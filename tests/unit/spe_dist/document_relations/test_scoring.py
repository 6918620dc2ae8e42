"""The measures against DocRED's official definition over its own JSON, on 1,000 sets of random predictions."""

import json
import random

import numpy as np
import pytest

from data_shards.annotated.read import read_documents
from data_shards.errors import UserError
from spe_dist.document_relations.config import DocumentRelationsConfig
from spe_dist.document_relations.graph import DocumentGraph, Edge, PairScores
from spe_dist.document_relations.scoring import DocumentScoring, ign_f1
from spe_dist.document_relations.task import DocumentRelations
from spe_dist.document_relations.threshold import best_threshold
from spe_dist.finetuning.predictions import RunPredictions
from spe_dist.finetuning.scored_run import compare_scored_runs, score_run

SCORING = DocumentScoring()
RELATIONS = ["P1", "P2", "P3"]


def random_docred(chance: random.Random, title: str) -> dict:
    sents = [["w"] * 4 for _ in range(chance.randint(1, 3))]
    entities = [
        [
            {"name": chance.choice("abcdeAB"), "sent_id": chance.randrange(len(sents)), "pos": [0, 1], "type": "X"}
            for _ in range(chance.randint(1, 2))
        ]
        for _ in range(chance.randint(2, 4))
    ]
    labels = []
    for _ in range(chance.randint(0, 6)):
        h, t = chance.sample(range(len(entities)), 2)
        evidence = chance.sample(range(len(sents)), chance.randint(0, len(sents)))
        if (h, t) not in [(label["h"], label["t"]) for label in labels]:
            labels.append({"h": h, "t": t, "r": chance.choice(RELATIONS), "evidence": evidence})
    return {"title": title, "sents": sents, "vertexSet": entities, "labels": labels}


def random_answers(chance: random.Random, documents: list[dict]) -> list[dict]:
    answers = []
    for document in documents:
        answers += [
            {"title": document["title"], "h_idx": label["h"], "t_idx": label["t"], "r": label["r"]}
            for label in document["labels"]
            if chance.random() < 0.5
        ]
        for _ in range(chance.randint(0, 4)):
            h, t = chance.sample(range(len(document["vertexSet"])), 2)
            answers.append({"title": document["title"], "h_idx": h, "t_idx": t, "r": chance.choice(RELATIONS)})
    return answers


def official(train: list[dict], documents: list[dict], answers: list[dict]) -> dict[str, float]:  # noqa: C901
    """F1, IgnF1, and the parts, by sets of tuples of the whole file."""
    facts_in_train = set()
    for document in train:
        for label in document["labels"]:
            for n1 in document["vertexSet"][label["h"]]:
                for n2 in document["vertexSet"][label["t"]]:
                    facts_in_train.add((n1["name"], n2["name"], label["r"]))
    std, vertices, evidence = set(), {}, {}
    for document in documents:
        vertices[document["title"]] = document["vertexSet"]
        for label in document["labels"]:
            key = (document["title"], label["r"], label["h"], label["t"])
            std.add(key)
            evidence[key] = len(set(label["evidence"]))
    submitted = {(one["title"], one["r"], one["h_idx"], one["t_idx"]) for one in answers}
    right = submitted & std
    known = 0
    for title, r, h, t in right:
        names = [(a["name"], b["name"], r) for a in vertices[title][h] for b in vertices[title][t]]
        known += any(name in facts_in_train for name in names)

    def f1(precision: float, recall: float) -> float:
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    def ratio(above: int, below: int) -> float:
        return above / below if below else 0.0

    def within(key: tuple) -> bool:
        title, _, h, t = key
        return any(a["sent_id"] == b["sent_id"] for a in vertices[title][h] for b in vertices[title][t])

    recall = ratio(len(right), len(std))
    found = {
        "relation_f1": f1(ratio(len(right), len(submitted)), recall),
        "relation_ign_f1": f1(ratio(len(right) - known, len(submitted) - known), recall),
    }
    for name, is_within in (("single_f1", True), ("cross_f1", False)):
        c, n, m = (sum(within(key) == is_within for key in keys) for keys in (right, submitted, std))
        found[name] = f1(ratio(c, n), ratio(c, m))
    for name, counted in (("one_evidence_recall", lambda n: n == 1), ("more_evidence_recall", lambda n: n > 1)):
        found[name] = ratio(sum(counted(evidence[key]) for key in right), sum(map(counted, evidence.values())))
    return found


def graphs(path, documents) -> list[DocumentGraph]:
    path.write_text(json.dumps(documents))
    return [DocumentGraph.of(one, language="en") for one in read_documents(path, "docred")[0]]


def with_answers(gold: list[DocumentGraph], answers: list[dict]) -> list[DocumentGraph]:
    edges = {one.title: [] for one in gold}
    for one in answers:
        edges[one["title"]].append(Edge(one["h_idx"], one["t_idx"], one["r"], 0.5))
    return [DocumentGraph(one.title, one.nodes, tuple(edges[one.title])) for one in gold]


def marked(gold, train):
    return DocumentRelations.mark(None, gold, train)


@pytest.mark.parametrize("seed", range(10))
def test_scores_are_those_of_the_official_definition(tmp_path, seed):
    chance = random.Random(seed)
    train = [random_docred(chance, f"train {n}") for n in range(2)]
    documents = [random_docred(chance, f"title {n}") for n in range(3)]
    gold = marked(graphs(tmp_path / "gold.json", documents), graphs(tmp_path / "train.json", train))
    assert [SCORING.from_json(json.loads(json.dumps(SCORING.to_json(one))), 0).as_json() for one in gold] == [
        one.as_json() for one in gold
    ]
    for _ in range(100):
        answers = random_answers(chance, documents)
        found = SCORING.scores(gold, with_answers(gold, answers))
        assert found == pytest.approx(official(train, documents, answers), abs=1e-12)


def test_ign_f1_of_nothing_is_0():
    assert ign_f1(np.zeros((2, 4))).tolist() == [0, 0]
    assert ign_f1(np.array([3, 3, 3, 4])) == 0  # all that is right is known
    assert ign_f1(np.array([3, 1, 5, 6])) == pytest.approx(0.5)


def highest_f1(scores: list[float], right: list[bool], facts: int) -> float:
    best = 0.0
    for threshold in scores:
        kept = [ok for score, ok in zip(scores, right, strict=True) if score >= threshold]
        best = max(best, 2 * sum(kept) / (len(kept) + facts))
    return best


def test_the_threshold_is_where_f1_is_highest(tmp_path):
    chance = random.Random(3)
    for _ in range(200):
        gold = graphs(tmp_path / "gold.json", [random_docred(chance, str(n)) for n in range(2)])
        found = []
        for one in gold:
            pairs = [(h, t) for h in range(len(one.nodes)) for t in range(len(one.nodes)) if h != t]
            scores = np.array([[chance.randint(1, 9) / 16 for _ in RELATIONS] for _ in pairs], dtype=np.float32)
            found.append(
                DocumentGraph(one.title, one.nodes, (), None, PairScores(np.array(pairs), scores, (*RELATIONS,)))
            )
        facts = sum(len(one.edges) for one in gold)
        scored = [
            (float(one.scores.scores[row, r]), (h, t, name) in {edge.fact for edge in truth.edges})
            for truth, one in zip(gold, found, strict=True)
            for row, (h, t) in enumerate(one.scores.pairs.tolist())
            for r, name in enumerate(RELATIONS)
        ]
        threshold = best_threshold(gold, found)
        f1 = SCORING.scores(gold, [one.decided(threshold) for one in found])["relation_f1"]
        if len(scored) <= 10 * facts:
            assert f1 == pytest.approx(highest_f1(*zip(*scored, strict=True), facts))
    assert best_threshold([], []) == 1.0


def test_runs_are_compared_by_documents_and_by_relation(tmp_path):
    chance = random.Random(5)
    documents = [random_docred(chance, f"title {n}") for n in range(40)]
    gold = graphs(tmp_path / "gold.json", documents)
    answers = [random_answers(chance, documents) for _ in range(3)]
    runs = [
        RunPredictions("a", gold, {1: with_answers(gold, answers[0]), 2: with_answers(gold, answers[1])}),
        RunPredictions("b", gold, {1: gold, 2: with_answers(gold, answers[2])}),
    ]
    scored = [score_run(SCORING, run, resamples=200) for run in runs]
    assert scored[1].values["relation_f1"][0] == 1
    tests = compare_scored_runs(*scored, resamples=200)
    assert tests["relation_f1"].difference.mean > 0.1
    of_seed = SCORING.run_json(scored[1])["relations"]["P1"]["seeds"]["1"]
    assert of_seed["f1"] == 1 and of_seed["correct"] == sum(e.type == "P1" for one in gold for e in one.edges)
    assert "P1" in SCORING.tables(scored)[0]


def test_other_gold_data_are_refused(tmp_path):
    chance = random.Random(6)
    documents = [random_docred(chance, f"title {n}") for n in range(3)]
    gold = graphs(tmp_path / "gold.json", documents)
    SCORING.check_same_gold(gold, gold)
    with pytest.raises(UserError, match="different gold data: 3 and 2"):
        SCORING.check_same_gold(gold, gold[:2])
    with pytest.raises(UserError, match="different gold data: document 1"):
        SCORING.check_same_gold(gold, gold[1:] + gold[:1])
    with pytest.raises(UserError, match="different training files: of document"):
        SCORING.check_same_gold(gold, marked(gold, gold))
    with pytest.raises(UserError, match="document 1 is 'title 1', but the gold one is 'title 0'"):
        SCORING.scores(gold, gold[1:] + gold[:1])


def test_the_configuration_gives_this_scoring():
    assert DocumentRelationsConfig.scoring() == SCORING
