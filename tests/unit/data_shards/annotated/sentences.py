"""Random annotated sentences for property tests."""

from hypothesis import strategies as st

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation

TYPES = st.sampled_from(["A", "B", "long type, with a comma", "é"])
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@st.composite
def annotated_sentences(draw, max_words: int = 12) -> AnnotatedSentence:
    """Entities may overlap and share words; relations go anywhere, also from an entity to itself."""
    words = draw(st.lists(WORDS, min_size=1, max_size=max_words))
    entity = st.builds(
        lambda ends, type: Entity(min(ends), max(ends), type),
        st.lists(st.integers(0, len(words)), min_size=2, max_size=2, unique=True),
        TYPES,
    )
    entities = draw(st.lists(entity, max_size=5, unique=True))
    relations = []
    if entities:
        number = st.integers(0, len(entities) - 1)
        relations = draw(st.lists(st.builds(Relation, number, number, TYPES), max_size=5, unique=True))
    return AnnotatedSentence(
        tuple(words), tuple(entities), tuple(relations), draw(st.sampled_from(["", "doc"])), draw(st.integers(0, 3))
    )
