"""JSON over any number of lines, in blocks cut anywhere."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_shards.input.json_values import JsonError, read_values

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def blocks(text: str, size: int) -> Iterator[bytes]:
    data = text.encode()
    return (data[start : start + size] for start in range(0, len(data), size))


@given(
    st.lists(VALUES, max_size=5),
    st.sampled_from([None, 0, 3]),
    st.booleans(),
    st.integers(1, 40),
    st.integers(1, 20),
)
@example([0.5, 1e30], None, True, 1, 1)  # a number is cut in two
def test_a_list_and_values_one_after_another(values, indent, ascii, block, more):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_shards.input.json_values._MORE", more)
        text = json.dumps(values, indent=indent, ensure_ascii=ascii)
        assert list(read_values(blocks(f"\n {text}\n", block))) == values
        objects = [{"a": value} for value in values]
        text = "\n".join(json.dumps(value, indent=indent, ensure_ascii=ascii) for value in objects)
        assert list(read_values(blocks(text, block))) == objects


def test_memory_does_not_grow_with_the_list():
    element = json.dumps({"text": "x" * 1000}).encode()
    handed_out = 0

    def endless() -> Iterator[bytes]:
        nonlocal handed_out
        yield b"[" + element
        while True:
            handed_out += 1
            yield b"," + element

    values = read_values(endless())
    for _ in range(1000):
        assert next(values) == json.loads(element)
    assert handed_out < 1100


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'[{"a": 1},\n {"b" 2}]', "line 2, column 7: expecting ':' delimiter"),
        (b'[{"a": 1}\n {"b": 2}]', "line 2, column 2: neither a comma nor the end of the list"),
        (b'[{"a": 1},', "line 1, column 11: expecting value"),
        (b'[{"a": 1}', "line 1, column 10: neither a comma"),
        (b'[{"a": "b', "line 1, column 8: unterminated string"),
        (b"[1]\n\n2", "line 3, column 1: text after the end of the list"),
        (b'[\n"a",\n"\xff"]', "line 3: invalid UTF-8"),
        (b"[1,\n" + b"[" * 100_000, "line 2, column 1: nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "line 1, column 2: .*digits"),
    ],
)
@pytest.mark.parametrize("size", [3, 1 << 20])
def test_what_is_wrong_is_told_with_its_place(content, problem, size):
    with pytest.raises(JsonError, match=problem):
        list(read_values(content[start : start + size] for start in range(0, len(content), size)))


def test_a_value_without_end_is_refused(monkeypatch):
    monkeypatch.setattr("data_shards.input.json_values.MAX_VALUE", 1 << 20)

    def content() -> Iterator[bytes]:
        yield b'[1, "'
        yield from [b"x" * 100_000] * 40
        raise AssertionError

    with pytest.raises(JsonError, match="column 5: a value of more than 1 Mi"):
        list(read_values(content()))


def test_a_mistake_is_told_without_reading_on():
    def content() -> Iterator[bytes]:
        yield b'[{"a" 1},' + b" " * 200_000
        raise AssertionError

    with pytest.raises(JsonError, match="column 7"):
        next(read_values(content()))
