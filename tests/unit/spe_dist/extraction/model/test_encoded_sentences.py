import numpy as np

from spe_dist.extraction.model.encoded_sentences import Labels, LeftOut, encode_sentences
from tests.unit.spe_dist.extraction.tiny import LABELS, SENTENCES, sentence, word_pieces


def encode(sentences, labels=LABELS, max_pieces=64):
    return encode_sentences(sentences, labels, word_pieces(), max_pieces=max_pieces)


def test_labels_are_the_sorted_types_and_none_comes_last():
    assert Labels(("LOC", "ORG", "PER"), ("born_in", "lives", "seat", "works")) == LABELS
    assert (LABELS.no_entity, LABELS.no_relation) == (3, 8)


def test_a_batch_is_the_sentences_in_the_asked_order():
    batch, words = encode(SENTENCES).batch(np.array([4, 0])), word_pieces()
    special = words.special_ids
    expected, first_pieces = [], []
    for row in (4, 0):
        expected.append(special.cls)
        for word in SENTENCES[row].words:
            first_pieces.append(len(expected))
            expected.extend(words.encode_words([word]).values.tolist())
        expected.append(special.sep)
    assert batch.packed.piece_ids.tolist() == expected
    assert batch.word_pieces.tolist() == first_pieces
    assert [expected[start] for start in batch.packed.sequence_starts[:-1]] == [special.cls] * 2
    assert batch.word_offsets.tolist() == [0, 7, 14]
    # "the Acme office of Paris hired Marie": entities in text order; Marie (last) works for Paris (its second)
    assert batch.gold_spans.tolist() == [[1, 2], [4, 5], [6, 7], [7, 9], [12, 13]]
    assert [LABELS.entity_types[t] for t in batch.gold_types] == ["ORG", "LOC", "PER", "PER", "LOC"]
    assert batch.gold_pairs.tolist() == [[0, 1], [0, 2], [3, 4]]
    types = [LABELS.relation_types[c // 2] + "<>"[1 - c % 2] for c in batch.gold_relations]
    assert types == ["seat>", "works<", "born_in>"]
    assert batch.gold_tagged.all()


def test_words_without_pieces_are_passed_over_and_words_keep_their_numbers():
    told = sentence(
        "\u200f Marie \x07 Curie \u200b Warsaw \ufe0f", "0-5:PER 5-6:LOC 2-3:ORG 4-7:LOC", "0>1:born_in 2>1:seat"
    )
    encoded = encode([told, sentence("\u200b"), sentence("Ann", "0-1:PER")])
    assert [encoded.word_numbers.row(number).tolist() for number in range(3)] == [[1, 3, 5], [], [0]]
    batch = encoded.batch(np.array([0, 1, 2]))
    expected = word_pieces().encode_words(["Marie", "Curie", "Warsaw"])
    assert batch.packed.piece_ids[batch.word_pieces[:3]].tolist() == expected.values[expected.offsets[:-1]].tolist()
    assert word_pieces().special_ids.unk not in batch.packed.piece_ids
    assert batch.word_offsets.tolist() == [0, 3, 3, 4]
    assert batch.gold_spans.tolist() == [[0, 2], [2, 3], [3, 4]]
    assert batch.gold_pairs.tolist() == [[0, 1]]
    assert encoded.left_out == LeftOut(without_pieces=2, entities_with_an_end_without_pieces=2, second_types_of_spans=1)


def test_no_sentences_and_sentences_without_words():
    assert len(encode([])) == 0
    batch = encode([sentence(""), sentence("Ann", "0-1:PER")]).batch(np.array([0, 1]))
    assert batch.word_offsets.tolist() == [0, 0, 1]
    assert batch.gold_spans.tolist() == [[0, 1]]


def test_what_the_model_cannot_be_taught_is_counted():
    nested = sentence(
        "Marie Curie of Warsaw met Ann",
        "0-4:PER 3-4:LOC 0-4:ORG 5-6:PER 4-5:MEETING 0-1:PER",
        "0>1:lives 0>3:works 3>0:works 0>3:marries",
    )
    encoded = encode([nested])
    assert encoded.left_out == LeftOut(
        second_types_of_spans=1, overlapping_entities=2, relations_of_overlapping_entities=1,
        second_relations_of_pairs=1, unknown_types=2,
    )  # fmt: skip
    batch = encoded.batch(np.array([0]))
    assert batch.gold_spans.tolist() == [[0, 1], [0, 4], [3, 4], [5, 6]]
    assert batch.gold_tagged.tolist() == [False, True, False, True]
    assert batch.gold_pairs.tolist() == [[1, 3]]
    assert "second types of spans (1), overlapping entities (2)" in str(encoded.left_out)
    assert str(encode(SENTENCES).left_out) == "nothing"


def test_a_long_sentence_is_a_row_for_each_window():
    long = sentence("a b a b a b a b a b a b", "1-2:PER 3-4:LOC 11-12:PER 0-12:ORG", "0>1:lives 0>2:works")
    encoded = encode([sentence("a"), long, sentence("b", "0-1:PER")], max_pieces=8)
    assert [[(w.word_start, w.word_end) for w in cut] for cut in encoded.windows] == [
        [(0, 1)], [(0, 6), (4, 10), (6, 12)], [(0, 1)]
    ]  # fmt: skip
    assert len(encoded) == 5
    assert encoded.num_pieces.tolist() == [3, 8, 8, 8, 3]
    batch = encoded.batch(np.array([3, 1, 4]))
    assert batch.gold_spans.tolist() == [[5, 6], [7, 8], [9, 10], [12, 13]]
    assert batch.gold_pairs.tolist() == [[1, 2]]
    assert encoded.left_out == LeftOut(beyond_windows=2)  # the longest entity, and the relation of the farthest ones
    pieces = word_pieces().encode_words(["a", "b"])
    assert batch.packed.piece_ids[batch.word_pieces[6:12]].tolist() == pieces.values.tolist() * 3


def test_a_word_longer_than_the_encoder_keeps_its_first_pieces():
    word = "Marie" * 9
    encoded = encode([sentence(f"a {word} b", "2-3:PER")], max_pieces=8)
    assert encoded.windows[0][1].word_end - encoded.windows[0][1].word_start == 1
    ids = encoded.batch(np.array([1])).packed.piece_ids.tolist()
    assert ids[1:-1] == word_pieces().encode_words([word]).values[:6].tolist()
