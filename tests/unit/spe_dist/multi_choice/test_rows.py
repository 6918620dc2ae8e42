"""Windows and candidate vectors, against a reader who goes word by word."""

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.text.word_pieces import WordPieces
from spe_dist.multi_choice.model import ChoiceSizes, MultiChoiceModel
from spe_dist.multi_choice.question import Question
from spe_dist.multi_choice.rows import encode
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

WORDS = ["Ann", "Paris", "Zürich", "of", "xyzzy", "___MASK_3___", "___MASK_42___"]
WORD_PIECES = WordPieces.load(str(DEBUG_VOCAB))
CPU = torch.device("cpu")


def ids_of(word: str) -> list[int]:
    if word.startswith("___"):
        return [WORD_PIECES.vocab_size + int(word[8:-3])]
    return WORD_PIECES.encode_words([word]).values.tolist()


class FixedStates(torch.nn.Module):
    """An encoder whose states say where they are: the packed index, and its square."""

    hidden_size = 2

    def forward(self, packed):
        place = torch.arange(len(packed.piece_ids), dtype=torch.float32)
        return torch.stack([place, place**2], dim=1)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_vectors_and_scores(data: st.DataObject) -> None:
    drawn = st.lists(st.sampled_from(WORDS), max_size=8)
    questions = [
        Question(
            str(number), data.draw(st.sampled_from(["in_the Ann", "of"])),
            ("paris", "Zurich of", "ann Paris", "Xyzzy", "___MASK_3___", "nowhere"),
            tuple(map(" ".join, data.draw(st.lists(drawn, min_size=1, max_size=4)))),
            data.draw(st.sampled_from(["paris", "Xyzzy"])),
        )
        for number in range(data.draw(st.integers(1, 4)))
    ]  # fmt: skip
    most = data.draw(st.sampled_from([None, 1, 2]))
    rows = encode(questions, WORD_PIECES, masks=100, max_pieces=16, max_windows=most, max_query=5)
    order = np.array(data.draw(st.permutations(range(len(questions)))))
    packed, candidates = rows.batch(order, CPU)
    starts, sequence = packed.sequence_starts.tolist(), 0
    lengths = np.diff(rows.windows.windows.offsets)
    assert [rows.num_pieces[row] + 2 for row in order] == [
        starts[end] - starts[end - lengths[row]] for row, end in zip(order, np.cumsum(lengths[order]), strict=True)
    ]
    expected: list[tuple[int, int, list[float]]] = []
    answers = []
    for place, row in enumerate(order):
        question = questions[row]
        words = "\n".join(question.supports).replace("\n", " \n ").split(" ")
        words = [word for word in words if word]
        of_words = [[WORD_PIECES.special_ids.sep] if word == "\n" else ids_of(word) for word in words]
        begins = np.append(0, np.cumsum([len(ids) for ids in of_words])).astype(int).tolist()
        text = [piece for ids in of_words for piece in ids]
        bounds = rows.windows.windows.row(row).tolist()
        query = rows.windows.questions.lengths[row]
        assert bounds[0][0] == 0 and all(a[1] == b[0] for a, b in pairwise(bounds))
        assert {end for _, end in bounds} <= set(begins) and (most is None) <= (bounds[-1][1] == len(text))
        firsts = []
        for (a, b), number in zip(bounds, range(sequence, sequence + len(bounds)), strict=True):
            firsts.append(starts[number] + query + 2)
            assert packed.piece_ids[firsts[-1] : firsts[-1] + b - a].tolist() == text[a:b]
        sequence += len(bounds)
        read = []
        for number, candidate in enumerate(question.candidates):
            phrase = candidate.lower().replace("zurich", "zürich").split()
            of_windows: dict[int, list[int]] = {}
            for first in range(len(words)):
                last = first + len(phrase)
                if [word.lower() for word in words[first:last]] == [word.lower() for word in phrase]:
                    span = begins[first], begins[last]
                    inside = [w for w, (a, b) in enumerate(bounds) if a <= span[0] and span[1] <= b]
                    assert inside or span[1] > bounds[-1][1]  # none is cut
                    for w in inside:
                        of_windows.setdefault(w, []).extend(firsts[w] + p - bounds[w][0] for p in range(*span))
            if of_windows:
                means = [[np.mean(places), np.mean(np.square(places))] for places in of_windows.values()]
                expected.append((place, number, np.mean(means, axis=0).tolist()))
                read.append(number)
        answer = question.candidates.index(str(question.answer))
        answers.append(answer if answer in read else -1)
    assert list(zip(candidates.question.tolist(), candidates.number.tolist(), strict=True)) == [
        one[:2] for one in expected
    ]
    assert candidates.answers.tolist() == answers and candidates.most == 6
    model = MultiChoiceModel(FixedStates(), ChoiceSizes(100, 16, most, 5, "en"))  # type: ignore[arg-type]
    vectors = candidates.pooled.means(FixedStates()(packed))
    torch.testing.assert_close(vectors, torch.tensor([one[2] for one in expected]).reshape(-1, 2), rtol=1e-4, atol=1e-3)
    scores = torch.full((len(order), 6), -torch.inf)
    for place, number, vector in expected:
        scores[place, number] = torch.tensor(vector) @ model.candidates.weight[0] + model.candidates.bias[0]
    torch.testing.assert_close(model.scores(packed, candidates), scores, rtol=1e-4, atol=1e-2)
    losses = model(packed, candidates)
    known = [place for place, answer in enumerate(answers) if answer >= 0]
    each = [-scores[place].log_softmax(0)[answers[place]] for place in known]
    torch.testing.assert_close(
        losses.losses[0], torch.stack(each).mean() if each else torch.tensor(0.0), rtol=1e-3, atol=1e-2
    )
    assert int(losses.correct) == sum(int(scores[place].argmax()) == answers[place] for place in known)
    assert losses.counts.tolist() == [len(order)]
    model.zero_grad()
    losses.losses.sum().backward()
    assert model.candidates.weight.grad is not None and model.candidates.weight.grad.isfinite().all()


def test_no_window_ends_within_a_candidate() -> None:
    for before in range(12):
        text = " ".join(["of"] * before + ["Ann", "Paris"] + ["of"] * 9)
        question = Question("", "of", ("ann paris",), (text,))
        rows = encode([question], WORD_PIECES, masks=0, max_pieces=12, max_windows=None, max_query=5)
        assert len(rows.windows.windows.values) > 1 and len(rows.occurrences.values) == 1
