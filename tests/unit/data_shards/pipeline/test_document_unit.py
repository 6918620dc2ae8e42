"""Records of documents against a slow loop that does what the rules say, one document, sentence and fact at a time."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_shards.annotated.document import Document, Fact, Mention, split_documents
from data_shards.pipeline.document_filter import DocumentFilter
from data_shards.pipeline.document_plan import DocumentPlan
from data_shards.pipeline.document_records import Relations, pack_sentences
from data_shards.pipeline.document_unit import DocumentUnit, wikidata_number
from data_shards.pipeline.ner_pipeline import EntityPlan
from data_shards.shards.record import BLOCKED, UNLINKED
from data_shards.text.word_pieces import WordPieces
from tests.unit.data_shards.conftest import DEBUG_VOCAB

WORDS = ["Rana", "of", "Toldo", "(", "said", "O'Brien's", "internationalisation", ".", "\u200b", "a-b"]
TYPES, RELATIONS = ("PER", "PLACE"), {"P1": "born in", "P2": "part of"}
word_pieces = WordPieces.load(DEBUG_VOCAB)


@st.composite
def documents(draw):
    """A document with overlapping mentions, entities in several sentences, repeated facts."""
    sentences = draw(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=7), min_size=1, max_size=7))
    entities = draw(st.integers(1, 5))
    mentions = []
    for _ in range(draw(st.integers(0, 9))):
        sentence = draw(st.integers(0, len(sentences) - 1))
        start = draw(st.integers(0, len(sentences[sentence]) - 1))
        end = draw(st.integers(start + 1, len(sentences[sentence])))
        entity = draw(st.integers(0, entities - 1))
        mentions.append(Mention(start, end, draw(st.sampled_from(TYPES)), entity, sentence))
    number = st.integers(0, entities - 1)
    pairs = draw(st.lists(st.tuples(number, number, st.sampled_from([*RELATIONS])), max_size=8))
    facts = [Fact(*fact) for fact in pairs if fact[0] != fact[1]]
    document = Document.of_words(sentences, mentions, facts)
    known = draw(st.booleans())
    return document._replace(identities=tuple(f"Q{7 * n}" for n in range(entities))) if known else document


def words_of(document):
    """The words of each sentence as (start, end, pieces), characters counted in the document."""
    for begin, end in document.locate_sentences("en"):
        located = word_pieces.locate_words([document.text[begin:end]])
        places = located.characters.tolist()
        yield [(begin + s, begin + e, located.pieces.row(n).tolist()) for n, (s, e) in enumerate(places)]


def expected_mentions(document, sentences):
    """The mentions as (sentence, first word, word after the last, number): the longest, then the first ones."""
    located = []
    for number, (start, end) in enumerate(document.characters()):
        touched = [
            (s, w)
            for s, words in enumerate(sentences)
            for w, word in enumerate(words)
            if word[0] < end and word[1] > start
        ]
        if touched and len({s for s, _ in touched}) == 1:
            located.append((touched[0][0], touched[0][1], touched[-1][1] + 1, number))
    taken, kept = set(), []
    for s, first, last, number in sorted(located, key=lambda m: (m[1] - m[2], m[0], m[1])):
        words = {(s, w) for w in range(first, last)}
        if not words & taken:
            taken |= words
            kept.append((s, first, last, number))
    return sorted(kept)


def expected_windows(sentences, max_pieces, dropped):
    """The sentences of each record."""
    windows, size = [[]], 0
    for s, words in enumerate(sentences):
        pieces = sum(len(word[2]) for word in words)
        if not words:
            dropped["without_words"] += 1
        elif pieces > max_pieces:
            dropped["too_many_pieces"] += 1
            windows, size = [*windows, []], 0
        elif size + pieces > max_pieces:
            windows, size = [*windows, [s]], pieces
        else:
            windows[-1].append(s)
            size += pieces
    return filter(None, windows)


def expected_records(document, chosen, max_pieces, dropped):
    """The records of one document, each a dictionary."""
    sentences = list(words_of(document))
    mentions = expected_mentions(document, sentences)
    for window in expected_windows(sentences, max_pieces, dropped):
        record = expected_record(document, sentences, window, mentions)
        reason = refused(record, chosen)
        if reason:
            dropped[reason] += 1
        else:
            yield record


def expected_record(document, sentences, window, mentions):
    starts, words = [], []
    for s in window:
        starts.append(len(words))
        words += sentences[s]
    rows, numbers, entities = [], [], {}
    for s, first, last, number in mentions:
        if s in window:
            mention, begin = document.mentions[number], starts[window.index(s)]
            rows.append([begin + first, begin + last, TYPES.index(mention.type)])
            numbers.append(entities.setdefault(mention.entity, len(entities)))
    relations = sorted(
        {
            (entities[fact.head], entities[fact.tail], [*RELATIONS].index(fact.type))
            for fact in document.facts
            if fact.head in entities and fact.tail in entities
        }
    )
    ids = [wikidata_number(document.identities[one]) if document.identities else UNLINKED for one in entities]
    return {
        "pieces": [piece for word in words for piece in word[2]],
        "words": len(words),
        "sentence_starts": starts,
        "entities": rows,
        "mention_entities": numbers,
        "knowledge_ids": ids,
        "relations": list(map(list, relations)),
    }


def refused(record, chosen):
    pairs = len({tuple(row[:2]) for row in record["relations"]})
    entities = len(record["knowledge_ids"])
    reasons = {
        "too_few_words": record["words"] < chosen.min_words,
        "too_few_entities": entities < chosen.min_entities,
        "too_many_entities": entities > chosen.max_entities,
        "too_few_facts": pairs < chosen.min_facts,
        "too_many_facts": pairs > chosen.max_facts,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


limits = st.builds(
    DocumentFilter,
    min_words=st.integers(1, 8),
    min_entities=st.integers(0, 3),
    min_facts=st.integers(0, 3),
    max_entities=st.integers(3, 5),
    max_facts=st.integers(3, 6),
)


@given(st.lists(documents(), max_size=4), limits, st.integers(3, 40))
def test_records_are_those_of_a_slow_loop(given_documents, chosen, max_pieces):
    sentences = split_documents(given_documents, "en")
    unit = DocumentUnit(
        DocumentPlan(chosen, RELATIONS), sentences, word_pieces.locate_words(sentences.texts), max_pieces
    )
    records, _ = unit.records(None, EntityPlan(TYPES, None, 0))
    dropped = Counter()
    expected = [record for one in given_documents for record in expected_records(one, chosen, max_pieces, dropped)]
    got = [
        {
            "pieces": records.pieces.row(n).tolist(),
            "words": len(records.word_starts.row(n)),
            **{name: records.layers[name].row(n).tolist() for name in list(records.layers)[2:]},
        }
        for n in range(len(records))
    ]
    assert got == expected
    assert {reason: count for reason, count in unit.dropped.items() if count} == dropped


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), max_size=40), st.integers(1, 12))
def test_sentences_are_packed_greedily(steps, most):
    documents = np.cumsum([step for step, _ in steps], dtype=np.int64)
    pieces = np.array([size for _, size in steps], dtype=np.int64)
    expected, record, size, before = [], -1, 0, None
    for document, count in zip(documents.tolist(), pieces.tolist(), strict=True):
        if count > most:
            before = None
            expected.append(-1)
            continue
        if document != before or size + count > most:
            record, size = record + 1, 0
        size, before = size + count, document
        expected.append(record)
    assert pack_sentences(pieces, documents, most).tolist() == expected


@given(st.data())
def test_a_blocked_pair_has_no_other_rows(data):
    number = st.integers(0, 3)
    rows = data.draw(st.lists(st.tuples(st.integers(0, 2), number, number, st.integers(0, 2)), max_size=30))
    pairs = data.draw(st.lists(st.tuples(st.integers(0, 2), number, number), max_size=6))
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    relations, blocked = Relations.unique(table[:, 0], table[:, 1:]).block(np.array(pairs, dtype=np.int64))
    own = {row for row in rows if row[:3] not in pairs}
    expected = sorted(own | {(*pair, BLOCKED) for pair in pairs})
    assert np.column_stack([relations.records, relations.rows]).tolist() == list(map(list, expected))
    assert blocked == len({row for row in rows if row[:3] in pairs})
    counts = Counter(record for record, _, _ in {row[:3] for row in own})
    assert relations.pairs_per_record(3).tolist() == [counts[n] for n in range(3)]


@pytest.mark.parametrize(
    ("code", "number"),
    [("Q42", 42), ("", UNLINKED), ("P31", UNLINKED), ("Q99999999999", UNLINKED), ("1980^^x", UNLINKED)],
)
def test_entities_of_wikidata_are_known_by_their_numbers(code, number):
    assert wikidata_number(code) == number
