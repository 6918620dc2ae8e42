"""Each measure by hand, and against a slow reading of its definition."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.errors import UserError
from spe_dist.entity_typing.scoring import LEVELS, EntityTypingScoring, granular, level_of
from spe_dist.entity_typing.task import best_threshold
from spe_dist.entity_typing.typed_mention import FINE, GENERAL, TypedMention
from spe_dist.finetuning.predictions import RunPredictions
from spe_dist.finetuning.score_report import score_json, score_text
from spe_dist.finetuning.scored_run import score_run

pytestmark = pytest.mark.any_version

SCORING = EntityTypingScoring()


def mention(name, types, scores=None):
    return TypedMention(str(name), ("a",), ("b",), (), tuple(types), scores)


def scores(gold, found):
    return SCORING.scores(*([mention(n, types) for n, types in enumerate(sets)] for sets in (gold, found)))


def test_macro_f1_decides_only_between_equal_accuracies():
    pairs = [(0.5001, 0.6), (0.5, 0.75), (0.5, 0.7)]
    points = [{"accuracy": accuracy, "macro_f1": macro_f1} for accuracy, macro_f1 in pairs]
    assert sorted(points, key=SCORING.selection_score, reverse=True) == points


def test_by_hand():
    gold = [["person", "artist"], ["place"], ["event", "war"], []]
    found = [["person"], ["place", "city"], [], ["time"]]
    # precisions 1, 1/2, -, 0; recalls 1/2, 1, 0, -; 2 right of 4 predicted and 5 gold types
    assert scores(gold, found) == pytest.approx(
        {"accuracy": 0.0, "macro_f1": 0.375, "micro_f1": 4 / 9, "macro_f1_ufet": 0.5}
    )
    assert scores(gold, gold) == pytest.approx(
        {"accuracy": 1.0, "macro_f1": 0.75, "micro_f1": 1.0, "macro_f1_ufet": 1.0}  # nothing predicted counts as 0
    )
    assert scores(gold[:3], [["artist", "person"], [], []])["accuracy"] == pytest.approx(1 / 3)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(*[st.sets(st.sampled_from("abcdef"), max_size=4)] * 2), min_size=1, max_size=20))
def test_as_a_slow_reading_of_the_definitions(pairs):
    def f1(p, r):
        return 2 * p * r / (p + r) if p + r else 0.0

    def mean(values):
        return sum(values) / len(values) if values else 0.0

    precisions = [len(g & p) / len(p) if p else None for g, p in pairs]
    recalls = [len(g & p) / len(g) if g else None for g, p in pairs]
    right = sum(len(g & p) for g, p in pairs)
    found, gold = sum(len(p) for _, p in pairs), sum(len(g) for g, _ in pairs)
    expected = {
        "accuracy": mean([g == p for g, p in pairs]),
        "macro_f1": f1(mean([p or 0 for p in precisions]), mean([r or 0 for r in recalls])),
        "micro_f1": f1(right / found if found else 0, right / gold if gold else 0),
        "macro_f1_ufet": f1(
            mean([p for p in precisions if p is not None]), mean([r for r in recalls if r is not None])
        ),
    }
    assert scores([sorted(g) for g, _ in pairs], [sorted(p) for _, p in pairs]) == pytest.approx(expected, abs=1e-8)


def test_granularities():
    assert (len(GENERAL), len(FINE), FINE & set(GENERAL)) == (9, 121, set())
    assert [level_of(name) for name in ("person", "artist", "painter")] == list(LEVELS)
    gold = [mention(0, ["person", "artist", "painter"]), mention(1, ["place"])]
    found = [mention(0, ["person", "artist", "actor"]), mention(1, ["person"])]
    assert granular(gold, found, "general") == pytest.approx([0.5, 0.5, 0.5])
    assert granular(gold, found, "fine") == pytest.approx([0.5, 1.0, 2 / 3])  # actor is fine, too
    assert granular(gold, found, "ultra-fine") == [0, 0, 0]
    run = score_run(SCORING, RunPredictions("a", gold, {1: found, 2: gold}), resamples=50)
    assert "ultra-fine" in score_text([run]) and "macro_f1_ufet" in score_text([run])
    by_granularity = score_json([run])["runs"][0]["by_granularity"]
    assert (by_granularity["fine"][0], by_granularity["ultra-fine"][1]) == (0.75, 0.5)  # means of both seeds
    figer = [mention(0, ["/person"])]
    assert "ultra-fine" not in score_text([score_run(SCORING, RunPredictions("b", figer, {1: figer}), resamples=50)])


def test_lines_are_read_again_and_other_mentions_refused():
    for one in (mention("x", ["a", "b"]), mention("y", ["a"], (0.25,))):
        assert SCORING.from_json(SCORING.to_json(one), 0) == one
    with pytest.raises(UserError, match="not the gold ones"):
        SCORING.contributions([mention(0, [])], [mention(1, [])])


def test_the_threshold_is_the_best_on_dev():
    gold = [mention(0, ["a", "b"]), mention(1, ["a"])]
    found = [mention(0, ["a", "b", "c"], (0.9, 0.4, 0.2)), mention(1, ["a", "c"], (0.3, 0.25))]
    assert best_threshold(gold, found) == 0.25  # the lowest at which c is out everywhere; the best type always stays
