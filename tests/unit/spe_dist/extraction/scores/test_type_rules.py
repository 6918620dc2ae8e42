"""Rules on types, against a slow search through all of them."""

from itertools import combinations, permutations

import pytest
from hypothesis import given

from spe_dist.extraction.scores.scoring import score
from spe_dist.extraction.scores.type_rules import TypeRules, relate
from tests.unit.spe_dist.extraction.random_sentences import any_entities, corpora
from tests.unit.spe_dist.extraction.tiny import sentence

pytestmark = pytest.mark.any_version


def strict_f1(gold, rule):
    return score(gold, relate(gold, rule))["relation_strict_f1"].micro.f1


def without_loops(gold):
    """Sentences whose relations lead from an entity to another one."""
    return [
        type(one)(
            one.words,
            one.entities,
            tuple(r for r in one.relations if one.entities[r.head] != one.entities[r.tail]),
        )
        for one in gold
    ]


@given(corpora(any_entities))
def test_no_set_of_triples_is_better_than_the_best_rule(corpus):
    gold = without_loops(corpus[0])
    triples = sorted({(s.entities[r.head].type, r.type, s.entities[r.tail].type) for s in gold for r in s.relations})
    best = strict_f1(gold, TypeRules.of(gold).best)
    for size in range(1, min(len(triples), 5) + 1):
        for rule in combinations(triples, size):
            assert strict_f1(gold, rule) <= best + 1e-9


@given(corpora(any_entities))
def test_the_majority_decides(corpus):
    gold = without_loops(corpus[0])
    rule = TypeRules.of(gold).majority
    pairs, related, kinds = {}, {}, {}
    for one in gold:
        facts = {(one.entities[r.head], one.entities[r.tail], r.type) for r in one.relations}
        for head, tail in permutations(set(one.entities), 2):
            types = head.type, tail.type
            found = [fact[2] for fact in facts if fact[:2] == (head, tail)]
            pairs[types] = pairs.get(types, 0) + 1
            related[types] = related.get(types, 0) + bool(found)
            kinds.setdefault(types, []).extend(found)
    assert [(head, tail) for head, _, tail in rule] == sorted(t for t in pairs if related[t] > pairs[t] / 2)
    for head, relation, tail in rule:
        counts = {kind: kinds[head, tail].count(kind) for kind in kinds[head, tail]}
        assert counts[relation] == max(counts.values())


def test_by_hand():
    """Drug → effect in two of three pairs, by two relations; the other way round, never."""
    train = [
        sentence("a b c", "0-1:Drug 1-2:Effect 2-3:Effect", "0>1:causes 0>2:causes"),
        sentence("a b", "0-1:Drug 1-2:Effect"),
        sentence("a b", "0-1:Place 1-2:Effect", "0>1:at"),
        sentence("a b c", "0-1:Place 1-2:Effect 2-3:Place"),
    ]
    rules = TypeRules.of(train)
    assert rules.majority == (("Drug", "causes", "Effect"),)  # a place is related to an effect in one case of three
    assert rules.best == (("Drug", "causes", "Effect"),)  # 2 of 3: F1 0.67; with places 3 of 6: 0.67 too
    test = [sentence("x y z", "0-1:Effect 1-2:Drug 2-3:Place")]
    (found,) = relate(test, rules.majority)
    assert [(one.head, one.tail, one.type) for one in found.relations] == [(1, 0, "causes")]
    assert relate(test, ())[0].relations == ()
    assert score(train, relate(train, rules.best))["relation_strict_f1"].micro.f1 == pytest.approx(2 / 3)


def test_a_rule_that_never_pays_relates_nothing():
    assert TypeRules.of([sentence("a b", "0-1:X 1-2:X")]) == TypeRules((), ())
