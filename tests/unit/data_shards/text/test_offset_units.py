"""Offsets in other units than characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_shards.text.offset_units import OffsetUnit, TextOffsets

ENCODINGS: dict[OffsetUnit, tuple[str, int]] = {
    "characters": ("utf-32-le", 4),
    "utf16": ("utf-16-le", 2),
    "bytes": ("utf-8", 1),
}
TEXTS = st.text(st.sampled_from("aé€🎉\u0301\u200d👩漢\n\r "), min_size=1, max_size=12)


@pytest.mark.parametrize("unit", ENCODINGS)
@given(text=TEXTS, data=st.data())
def test_a_span_is_what_the_encoded_text_has_there(unit: OffsetUnit, text: str, data: st.DataObject) -> None:
    encoding, size = ENCODINGS[unit]
    first = data.draw(st.integers(0, len(text) - 1))
    last = data.draw(st.integers(first + 1, len(text)))
    start, end = (len(text[:place].encode(encoding)) // size for place in (first, last))
    assert TextOffsets(text, unit).span(start, end) == (first, last)


@pytest.mark.parametrize("unit", ["utf16", "bytes"])
@given(text=TEXTS)
def test_an_offset_inside_a_character_is_refused(unit: OffsetUnit, text: str) -> None:
    encoding, size = ENCODINGS[unit]
    begins = {len(text[:place].encode(encoding)) // size for place in range(len(text) + 1)}
    for start in range(max(begins)):
        for end in range(start + 1, max(begins) + 1):
            if {start, end} <= begins:
                TextOffsets(text, unit).span(start, end)
            else:
                with pytest.raises(ValueError, match="inside a character"):
                    TextOffsets(text, unit).span(start, end)


def test_what_is_beyond_the_text_is_refused_with_its_lengths() -> None:
    with pytest.raises(ValueError, match=r"has 2 \(3 UTF-16 units, 6 bytes of UTF-8\)$"):
        TextOffsets("é🎉", "characters").span(0, 3)
    with pytest.raises(ValueError, match=r"on UTF-16 units 0 up to.* 4, but the text has 3 \(2 characters, 6 bytes"):
        TextOffsets("é🎉", "utf16").span(0, 4)
    with pytest.raises(ValueError, match=r"has 2$"):
        TextOffsets("ab", "bytes").span(-1, 2)
    for start, end in ((2, 1), (1, 1)):
        with pytest.raises(ValueError, match=f"begins at {start} and ends at {end}"):
            TextOffsets("ab", "characters").span(start, end)
