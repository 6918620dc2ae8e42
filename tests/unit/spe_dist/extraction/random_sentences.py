"""Random sentences for hypothesis: few words and types, so that predictions often hit."""

from hypothesis import strategies as st

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation

ENTITY_TYPES = ("person", "place", "thing")
RELATION_TYPES = ("near", "in", "sees")


@st.composite
def separate_entities(draw, num_words):
    """Entities that do not overlap."""
    ends = sorted(draw(st.sets(st.integers(1, num_words), max_size=num_words)))
    types = draw(st.lists(st.sampled_from((None, *ENTITY_TYPES)), min_size=len(ends), max_size=len(ends)))
    starts = [0, *ends][: len(ends)]
    return tuple(Entity(*rest) for rest in zip(starts, ends, types, strict=True) if rest[2])


@st.composite
def any_entities(draw, num_words):
    """Entities that may overlap, lie on the same words or be there twice."""
    spans = st.tuples(st.integers(0, num_words - 1), st.integers(1, 3), st.sampled_from(ENTITY_TYPES[:2]))
    found = draw(st.lists(spans, max_size=4))
    return tuple(Entity(start, min(start + width, num_words), type_) for start, width, type_ in found)


@st.composite
def relations(draw, entities):
    if not entities:
        return ()
    number = st.integers(0, len(entities) - 1)
    return tuple(draw(st.lists(st.builds(Relation, number, number, st.sampled_from(RELATION_TYPES)), max_size=5)))


@st.composite
def corpora(draw, entities, max_sentences=4, max_words=5):
    """Gold and predicted sentences."""
    gold, predicted = [], []
    for _ in range(draw(st.integers(0, max_sentences))):
        words = tuple("abcdefgh"[: draw(st.integers(1, max_words))])
        for sentences in (gold, predicted):
            found = draw(entities(len(words)))
            sentences.append(AnnotatedSentence(words, found, draw(relations(found))))
    return gold, predicted
