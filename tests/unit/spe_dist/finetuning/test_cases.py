"""Items on which two runs differ, against comparing all seeds and facts one by one, and what each task shows of one."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.errors import UserError
from spe_dist.document_relations.graph import DocumentGraph, Edge, NamedPlace, Node
from spe_dist.document_relations.scoring import DocumentScoring
from spe_dist.entity_typing.scoring import EntityTypingScoring
from spe_dist.entity_typing.typed_mention import TypedMention
from spe_dist.extraction.scores.joint_scoring import JointScoring
from spe_dist.extractive_qa import question as extractive
from spe_dist.extractive_qa.scoring import ExtractiveQaScoring
from spe_dist.finetuning.cases import find_cases
from spe_dist.finetuning.predictions import RunPredictions
from spe_dist.multi_choice.question import Question
from spe_dist.multi_choice.scoring import MultiChoiceScoring
from spe_dist.sentence_relations.marked_sentence import MarkedSentence
from spe_dist.sentence_relations.scoring import SentenceRelationsScoring
from tests.unit.spe_dist.extraction.random_sentences import any_entities, relations
from tests.unit.spe_dist.finetuning.second_task import HoldsScoring, Judged

pytestmark = pytest.mark.any_version

SCORING = JointScoring()
WORDS = ("Anna", "sees", "Bob", "in", "Rome")
ANNA, BOB, ROME = Entity(0, 1, "person"), Entity(2, 3, "person"), Entity(4, 5, "place")
SEES, IN = Relation(0, 1, "sees"), Relation(0, 2, "in")


def sentence(*relations, entities=(ANNA, BOB, ROME)):
    return AnnotatedSentence(WORDS, entities, relations)


def run_of(name, gold, **by_seed):
    return RunPredictions(name, gold, {int(seed[1:]): list(found) for seed, found in by_seed.items()})


@st.composite
def two_runs(draw):
    """Runs of up to three seeds on up to four sentences of the same words."""

    def any_sentence():
        entities = draw(any_entities(len(WORDS)))
        return AnnotatedSentence(WORDS, entities, draw(relations(entities)))

    size = draw(st.integers(0, 4))
    gold = [any_sentence() for _ in range(size)]
    seeds = [sorted(draw(st.sets(st.integers(1, 4), min_size=1, max_size=3))) for _ in range(2)]
    if draw(st.booleans()):
        seeds[1] = seeds[0]
    return [
        RunPredictions(name, gold, {seed: [any_sentence() for _ in range(size)] for seed in of_run})
        for name, of_run in zip("ab", seeds, strict=True)
    ]


def facts_slowly(one):
    """Relations and entities of a sentence, each a set of what it says."""
    said = {(one.entities[r.head], r.type, one.entities[r.tail]) for r in one.relations}
    return said, set(one.entities)


def points_slowly(true, guess):
    pairs = zip(facts_slowly(true), facts_slowly(guess), strict=True)
    return [sum(1 if fact in gold else -1 for fact in found) for gold, found in pairs]


@settings(max_examples=60, deadline=None)
@given(two_runs(), st.integers(1, 3))
def test_cases_are_those_of_comparing_all_with_all(runs, most):
    first, second = runs
    same = list(first.by_seed) == list(second.by_seed)
    pairs = [(a, b) for a in first.by_seed for b in second.by_seed if a == b or not same]
    differ, means, wins = 0, [], []
    for row, true in enumerate(first.gold):
        guesses = [(first.by_seed[a][row], second.by_seed[b][row]) for a, b in pairs]
        differ += any(facts_slowly(one) != facts_slowly(other) for one, other in guesses)
        points = [(points_slowly(true, one), points_slowly(true, other)) for one, other in guesses]
        means.append([Fraction(sum(b[kind] - a[kind] for a, b in points), len(pairs)) for kind in (0, 1)])
        wins.append((sum(a > b for a, b in points), sum(b > a for a, b in points)))
    cases = find_cases(SCORING, first, second, most=most)
    assert (cases.differ, cases.seed_pairs) == (differ, len(pairs))
    for direction, sign in ((cases.first_better, -1), (cases.second_better, 1)):
        better = [row for row, mean in enumerate(means) if [sign * value for value in mean] > [0, 0]]
        better.sort(key=lambda row: [-sign * value for value in means[row]])  # stable: the file's order where equal
        assert direction.items == len(better)
        assert [case.line for case in direction.cases] == [row + 1 for row in better[:most]]
        for case in direction.cases:
            row = case.line - 1
            assert list(case.difference.values()) == pytest.approx([float(value) for value in means[row]])
            assert (case.pairs_first_better, case.pairs_second_better) == wins[row]
            of_seeds = [[facts_slowly(seed[row]) for seed in run.by_seed.values()] for run in runs]
            shown = {"relations": [], "entities": []}
            for fact in case.facts:
                shown[fact.kind].append((fact.right, fact.first, fact.second))
            for kind, name in enumerate(shown):
                gold = facts_slowly(first.gold[row])[kind]
                everything = gold.union(*(found[kind] for run in of_seeds for found in run))
                expected = [
                    (fact in gold, *(sum(fact in found[kind] for found in run) for run in of_seeds))
                    for fact in everything
                ]
                assert sorted(shown[name]) == sorted(expected)


def test_relations_decide_and_entities_where_they_are_equal():
    gold = [sentence(SEES)] * 3
    one_entity_less = sentence(SEES, entities=(ANNA, BOB))
    first = run_of("a", gold, s1=[sentence(), sentence(SEES), sentence(SEES)])
    second = run_of("b", gold, s1=[one_entity_less, one_entity_less, sentence(SEES, IN)])
    cases = find_cases(SCORING, first, second, most=9)
    assert [(case.line, case.difference) for case in cases.second_better.cases] == [
        (1, {"relations": 1.0, "entities": -1.0})
    ]
    assert [(case.line, case.difference) for case in cases.first_better.cases] == [
        (3, {"relations": -1.0, "entities": 0.0}),
        (2, {"relations": 0.0, "entities": -1.0}),
    ]


def test_differences_that_cancel_out_are_counted_and_not_shown():
    gold = [sentence(SEES)]
    first, second = run_of("a", gold, s1=[sentence(SEES, IN)]), run_of("b", gold, s1=[sentence()])
    cases = find_cases(SCORING, first, second, most=9)
    assert (cases.differ, cases.first_better.items, cases.second_better.items) == (1, 0, 0)


def test_direction_of_symmetric_types_makes_no_difference():
    gold, turned = [sentence(SEES)], sentence(Relation(1, 0, "sees"))
    runs = run_of("a", gold, s1=gold), run_of("b", gold, s1=[turned])
    assert find_cases(SCORING, *runs, most=1).first_better.items == 1
    assert find_cases(SCORING.with_symmetric(["sees"], gold), *runs, most=1).differ == 0


def test_words_that_a_sentence_has_twice_are_told_apart():
    twice = AnnotatedSentence(("Rome", "is", "not", "Rome", "."), (Entity(3, 4, "place"), Entity(0, 2, "x")))
    assert list(SCORING.shown(twice).facts["entities"].values()) == ["Rome (place, 2 of 2)", "Rome is (x)"]


NODES = tuple(Node(type, (NamedPlace(name, 0, 0, 1),)) for name, type in (("Anna", "PER"), ("Rome", "LOC")))


@pytest.mark.parametrize(
    ("scoring", "gold", "worse", "text", "facts"),
    [
        (
            SCORING,
            sentence(SEES),
            sentence(IN),
            "Anna sees Bob in Rome",
            [
                ("relations", "Anna (person) → sees → Bob (person)", True),
                ("relations", "Anna (person) → in → Rome (place)", False),
                ("entities", "Anna (person)", True),
                ("entities", "Bob (person)", True),
                ("entities", "Rome (place)", True),
            ],
        ),
        (
            DocumentScoring(),
            DocumentGraph("A life", NODES, (Edge(0, 1, "born in", evidence=(0,)),)),
            DocumentGraph("A life", NODES, (Edge(1, 0, "born in", 0.9),)),
            "A life (2 entities)",
            [
                ("relations", "Anna (PER) → born in → Rome (LOC)", True),
                ("relations", "Rome (LOC) → born in → Anna (PER)", False),
            ],
        ),
        (
            SentenceRelationsScoring(),
            MarkedSentence("7", WORDS, (0, 1), (3, 5), "At(e1,e2)"),
            MarkedSentence("7", WORDS, (0, 1), (3, 5), None, 0.4),
            "<e1>Anna</e1> sees Bob <e2>in Rome</e2>",
            [("relations", "At(e1,e2)", True)],
        ),
        (
            EntityTypingScoring(),
            TypedMention("7", WORDS[:2], WORDS[2:3], WORDS[3:], ("person",)),
            TypedMention("7", WORDS[:2], WORDS[2:3], WORDS[3:], ("person", "place"), (0.9, 0.6)),
            "Anna sees [Bob] in Rome",
            [("types", "person", True), ("types", "place", False)],
        ),
        (
            MultiChoiceScoring(),
            Question("7", "born_in anna", ("Rome", "Oslo"), answer="Rome"),
            Question("7", "born_in anna", ("Rome", "Oslo"), answer="Oslo", scores=(0.1, 0.9)),
            "born_in anna\ncandidates: Rome; Oslo",
            [("answers", "Rome", True), ("answers", "Oslo", False)],
        ),
        (
            ExtractiveQaScoring(),
            extractive.Question("7", "Where?", "Anna is in\nthe old Rome.", ("the old Rome", "Rome"), ((11, 23),)),
            extractive.Question("7", "Where?", "", found=(extractive.Found("Anna", 0, 4, 0.5),)),
            "Where?\nAnna is in the old Rome.",
            [("answers", "the old Rome", True), ("answers", "Rome", True), ("answers", "Anna", False)],
        ),
    ],
)
def test_what_a_task_shows_of_an_item(scoring, gold, worse, text, facts):
    """Written to a file and read again, as `spe compare` has it."""
    gold, worse = (scoring.from_json(scoring.to_json(one), 0) for one in (gold, worse))
    right = gold
    if isinstance(scoring, ExtractiveQaScoring):
        right = gold._replace(found=(extractive.Found("old  ROME", 15, 23, 0.9),))
        facts = [("answers", "the old Rome", True), *facts[1:]]  # as annotated, where the words are the same
    cases = find_cases(scoring, run_of("a", [gold], s1=[worse]), run_of("b", [gold], s1=[right]), most=1)
    (case,) = cases.second_better.cases
    assert (case.text, [(fact.kind, fact.text, fact.right) for fact in case.facts]) == (text, facts)
    assert all(fact.second <= fact.right for fact in case.facts) and case.pairs_second_better == 1


def test_a_task_that_shows_no_items_says_so():
    gold = [Judged("a", True)]
    with pytest.raises(UserError, match="--cases: this task cannot show single sentences: remove --cases"):
        find_cases(HoldsScoring(), run_of("a", gold, s1=gold), run_of("b", gold, s1=gold), most=1)
