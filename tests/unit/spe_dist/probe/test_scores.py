"""Chance is 1 / N, knowing the words is everything."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from spe_dist.probe.scores import score
from spe_dist.probe.similarity import by_contrast, by_sentence_vectors, contrast_vectors
from tests.paper.tiny_spe import build_spe
from tests.unit.spe_dist.batches.sentences import SPECIAL, build_collate, random_sentences, records_of
from tests.unit.spe_dist.probe.test_questions import QUESTIONS, SENTENCES, N, draw, sequences

pytestmark = pytest.mark.any_version

Q = len(QUESTIONS)


def overall(similarity, questions=QUESTIONS):
    return score(similarity, questions, seed=0)[0]


def test_who_knows_nothing_is_at_chance_exactly():
    for similarity in (torch.zeros(Q, N), torch.arange(Q)[:, None].expand(Q, N)):  # the second knows the frame
        found = overall(similarity)
        assert (found.stratum, found.questions) == ("all", Q)
        assert found.accuracy == pytest.approx(1 / N, abs=1e-12)
        assert found.mean_percentile == 0.5
        assert found.accuracy_interval == pytest.approx((1 / N, 1 / N))


def test_random_similarities_are_at_chance_and_their_interval_holds_it():
    questions = draw(questions=400, candidates=4)
    generator = torch.Generator().manual_seed(0)
    found = [overall(torch.randn(400, 4, generator=generator), questions) for _ in range(40)]
    assert np.mean([one.accuracy for one in found]) == pytest.approx(1 / 4, abs=4 * 0.0217 / 40**0.5)
    assert np.mean([one.mean_percentile for one in found]) == pytest.approx(0.5, abs=0.01)
    held = sum(one.accuracy_interval[0] <= 1 / 4 <= one.accuracy_interval[1] for one in found)
    assert held >= 34  # of 40, 38 expected
    assert (
        0.07 < found[0].accuracy_interval[1] - found[0].accuracy_interval[0] < 0.10
    )  # 4 · sqrt(.25 · .75 / 400) = .087


def test_an_oracle_that_sees_the_words_finds_all():
    """Every sentence says one word of its own, and others that all say; who looks for that word finds the pair."""
    sentences = [[[4 + row], [4 + row], [4 + row], *common] for row, common in enumerate(
        random_sentences(3000, seed=1, least=3, longest=5, vocabulary=3))]  # fmt: skip
    questions = draw([[word if len(word) == 1 else word[:1] for word in s] for s in sentences], questions=30)
    chosen = questions.shares_word
    assert chosen.any()
    rows = np.arange(len(questions))
    contexts = [set(text) - {SPECIAL.cls, SPECIAL.sep} for text in sequences(questions.context_texts(rows))]
    pairs = sequences(questions.pair_texts(rows))
    similarity = torch.tensor(
        [[len({p for p in pairs[q * N + c] if p > 6} & contexts[q]) for c in range(N)] for q in rows]
    ).float()
    by_stratum = {row.stratum: row for row in score(similarity, questions, seed=0)}
    assert by_stratum["a content word shared"].accuracy == 1.0
    assert by_stratum["a content word shared"].mean_percentile == 1.0


def test_accuracy_and_percentile_are_those_of_ranks_by_hand():
    similarity = torch.tensor([[3.0, 1, 2], [1.0, 2, 0], [0.0, 1, 2], [2.0, 2, 1]])
    questions = draw(questions=4, candidates=3)
    found = overall(similarity, questions)
    assert found.accuracy == (1 + 0 + 0 + 1 / 2) / 4
    assert found.mean_percentile == (1 + 1 / 2 + 0 + 3 / 4) / 4


def test_vectors_are_those_that_pre_training_contrasts():
    spe, _ = build_spe(encoder={"dropout": 0.0})
    encoder = spe.model.encoder.eval()
    encoder.project = lambda pairs: torch.nn.functional.normalize(encoder.head(pairs).float(), dim=1)
    records = records_of([[[piece % 20 for piece in word] for word in s] for s in random_sentences(6, seed=2, least=6)])
    boundaries = np.array([[0, 1, 2, 4, 5, n] for n in records.word_starts.lengths])
    collate = build_collate()
    drawn = collate.show(records, boundaries)
    trained = encoder(collate.batch(drawn))
    views = QUESTIONS.__class__(
        records, boundaries, drawn.records.pieces, np.zeros(6, bool), np.zeros(6, bool), SPECIAL
    )
    torch.testing.assert_close(contrast_vectors(encoder, views.context_views(np.arange(6))), trained[6:])


def test_similarities_are_products_of_the_vectors_of_question_and_candidates():
    spe, _ = build_spe(encoder={"dropout": 0.0})
    encoder = spe.model.encoder.eval()
    encoder.project = encoder.head
    questions = draw([[[piece % 20 for piece in word] for word in s] for s in SENTENCES], questions=12)
    rows, silent = np.arange(12), lambda done: None
    with torch.no_grad():
        asked = contrast_vectors(encoder, questions.context_views(rows))
        answered = contrast_vectors(encoder, questions.pair_views(rows)).view(12, N, -1)
        expected = torch.einsum("qd,qnd->qn", asked, answered)
        torch.testing.assert_close(by_contrast(encoder, questions, silent), expected, rtol=1e-4, atol=1e-5)
        means = []
        for packed in (questions.context_texts(rows), questions.pair_texts(rows)):
            states, starts = encoder.sentence_encoder(packed), packed.sequence_starts.tolist()
            means.append(torch.stack([states[a:b].mean(dim=0) for a, b in pairwise(starts)]))
        cosine = torch.cosine_similarity(means[0][:, None], means[1].view(12, N, -1), dim=2)
    torch.testing.assert_close(
        by_sentence_vectors(encoder.sentence_encoder, questions, silent), cosine, rtol=1e-4, atol=1e-5
    )
