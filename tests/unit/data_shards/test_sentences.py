import sentencex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_shards.sentences import locate_sentences, split_sentences

TEXTS = st.text(st.one_of(st.sampled_from(" .!?\n\r\t\u3000A"), st.characters(exclude_categories=["Cs"])), max_size=60)


@settings(deadline=None)
@given(TEXTS)
@example("Dr. Smith left. 😀 He was late!\r\n\n  “Yes.” \u2028 Who? ")
def test_sentences_are_the_splitters_and_stand_where_they_say(document):
    places = locate_sentences(document)
    told = [part.strip() for line in document.split("\n") for part in sentencex.segment("en", line) if part.strip()]
    assert [document[start:end] for start, end in places] == told == split_sentences(document)
    assert places == sorted(places)
    between = zip([0, *(end for _, end in places)], [*(start for start, _ in places), len(document)], strict=True)
    assert all(not document[before:after].strip() for before, after in between)  # nothing but white space is left out
