"""Questions with windows of their texts, against what a reader would do one piece at a time."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.ragged import Ragged
from data_shards.text.word_pieces import WordPieces
from data_shards.tokenizer.files import SpecialIds
from spe_dist.finetuning.question_windows import QuestionWindows, cut_windows, locate_pieces
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

SPECIAL = SpecialIds(cls=101, sep=102, mask=103, pad=0, unk=100)


def ragged(rows: list[list[Any]]) -> Ragged:
    values = np.array([value for row in rows for value in row])
    return Ragged.from_lengths(values, np.array([len(row) for row in rows], dtype=np.int64))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_windows_and_their_sequences(data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.lists(st.integers(1, 50), max_size=40), min_size=1, max_size=4))
    questions = [data.draw(st.lists(st.integers(51, 99), max_size=9)) for _ in texts]
    max_pieces, max_question = data.draw(st.integers(9, 20)), data.draw(st.integers(1, 6))
    stride, most = data.draw(st.sampled_from([None, 1, 3])), data.draw(st.sampled_from([None, 1, 3]))
    breaks = [[data.draw(st.booleans()) for _ in range(len(text) + 1)] for text in texts]
    windows = QuestionWindows.cut(
        ragged(questions).take(np.arange(len(texts))), ragged(texts), SPECIAL, max_pieces=max_pieces,
        max_question=max_question, stride=stride, may_break=ragged(breaks), most=most,
    )  # fmt: skip
    expected, left_out = [], []
    for question, text, may_break in zip(questions, texts, breaks, strict=True):
        front = [101, *question[: min(max_question, (max_pieces - 3) // 2)], 102]
        start = count = end = 0
        while (count == 0 or end < len(text)) and count != most:
            end = min(start + max_pieces - len(front) - 1, len(text))
            if end < len(text) and stride is None:
                end = next((place for place in range(end, start, -1) if may_break[place]), end)
            window = [*text[start:end], 102]
            expected.append((front + window, [0] * len(front) + [1] * len(window)))
            count, start = count + 1, end if stride is None else start + stride
        left_out.append(len(text) - end)
    assert windows.left_out.tolist() == left_out
    assert windows.num_pieces.tolist() == [len(ids) - 2 for ids, _ in expected]
    order = data.draw(st.permutations(range(len(expected))))
    packed, first = windows.pack(np.array(order))
    assert packed.segments is not None
    starts = packed.sequence_starts.tolist()
    for row, number in enumerate(order):
        a, b = starts[row : row + 2]
        assert (packed.piece_ids[a:b].tolist(), packed.segments[a:b].tolist()) == expected[number]
        assert packed.positions[a:b].tolist() == list(range(b - a))
        assert first[row] - a == expected[number][1].index(1)
    assert windows.question.tolist() == [q for q, n in enumerate(windows.windows.lengths) for _ in range(n)]
    assert windows.is_cut.tolist() == [len(q) > min(max_question, (max_pieces - 3) // 2) for q in questions]


def test_pieces_know_the_characters_of_their_words() -> None:
    word_pieces = WordPieces.load(str(DEBUG_VOCAB))
    texts = ["Ann lives\u200b in  Paris-Nord.", "", "\u200b"]
    located = locate_pieces(texts, word_pieces)
    assert located.pieces.lengths.tolist() == located.characters.lengths.tolist()
    assert located.pieces.lengths.tolist()[1:] == [0, 0]
    words = list(dict.fromkeys(texts[0][start:end] for start, end in located.characters.row(0).tolist()))
    assert [word.strip("\u200b") for word in words] == ["Ann", "lives", "in", "Paris", "-", "Nord", "."]
    assert located.pieces.row(0).tolist() == word_pieces.encode_words(words).values.tolist()


@pytest.mark.parametrize(
    ("options", "windows"), [({}, [[0, 4], [4, 8], [8, 9]]), ({"stride": 3}, [[0, 4], [3, 7], [6, 9]])]
)
def test_windows_of_nine_pieces(options: dict[str, int], windows: list[list[int]]) -> None:
    assert cut_windows(9, 4, **options).tolist() == windows
    assert cut_windows(0, 4, **options).tolist() == [[0, 0]]
