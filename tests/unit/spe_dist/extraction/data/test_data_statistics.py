from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from spe_dist.extraction.data.data_statistics import SharedSentence, count_data, find_shared

WORDS = tuple("abcdefgh")


def sentence(entities=(), relations=(), words=WORDS, document="") -> AnnotatedSentence:
    return AnnotatedSentence(
        words,
        tuple(Entity(*entity) for entity in entities),
        tuple(Relation(*relation) for relation in relations),
        document,
    )


def test_counts_of_a_sentence():
    counts = count_data(
        [
            sentence(
                [(0, 2, "A"), (1, 3, "B"), (5, 8, "A"), (6, 7, "A"), (6, 7, "B")],
                [(2, 0, "r"), (0, 2, "r"), (0, 2, "s"), (1, 2, "r"), (3, 2, "r")],
                document="d",
            ),
            sentence(words=("x",), document="d"),
            sentence(),
        ]
    )
    assert (counts.sentences, counts.documents, counts.words, counts.without_entities) == (3, 1, 17, 2)
    assert (counts.words_of_sentence, counts.entities_of_sentence) == ([8, 1, 8], [5, 0, 0])
    assert counts.entity_types == {"A": 3, "B": 2}
    assert (counts.overlapping, counts.nested, counts.equal_words) == (4, 3, 1)
    assert (counts.pairs, counts.related_pairs, counts.pairs_of_several_relations) == (10, 4, 1)
    assert counts.relations_of_overlapping == 1
    assert counts.words_between == [3, 3, 3, 2]
    assert counts.repeated == 1
    found = counts.relation_types["r"]
    assert (found.count, found.left_to_right, found.both_ways, found.same_types) == (4, 2, 2, 3)


def test_types_that_look_symmetric():
    entities = [(0, 1, "A"), (2, 3, "A"), (4, 5, "B")]
    looks = {
        "in both directions": [(0, 2, "t"), (2, 0, "t")],
        "in text order": [(0, 1, "t")],
    }
    looks_not = {
        "against text order": [(1, 0, "t")],
        "of other types": [(0, 2, "t")],
        "another type back": [(0, 2, "t"), (2, 0, "u")],
    }
    for cases, expected in ((looks, True), (looks_not, False)):
        for name, relations in cases.items():
            counts = count_data([sentence(entities, relations)])
            assert counts.relation_types["t"].looks_symmetric is expected, name


def test_shared_sentences_are_compared_by_meaning_not_order():
    entities = [(0, 1, "A"), (2, 3, "B")]
    one = sentence(entities, [(0, 1, "r")])
    reordered = sentence(entities[::-1], [(1, 0, "r")])
    reversed_relation = sentence(entities, [(1, 0, "r")])
    other = sentence(words=("x",))
    assert find_shared([other, one], [reordered]) == [SharedSentence(1, 0, False)]
    assert find_shared([one, one, other], [reversed_relation, other]) == [
        SharedSentence(0, 0, True),
        SharedSentence(1, 0, True),
        SharedSentence(2, 1, False),
    ]
    assert find_shared([one], [reversed_relation, reordered]) == [SharedSentence(0, 0, False)]
    assert find_shared([sentence(words=("X",))], [other]) == []  # exactly: with the same case


def test_nothing_to_count():
    assert count_data([]).sentences == 0
