from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_shards.knowledge.linking import LinkedMentions, Linker
from data_shards.text.word_pieces import WordPieces
from tests.unit.data_shards.knowledge.knowledge_bases import load_kb
from tests.unit.data_shards.text.test_word_pieces import DEBUG_VOCAB

pytestmark = pytest.mark.any_version


def rows(found: LinkedMentions) -> list[tuple[int, int, int, int]]:
    """(sentence, first word, word after the last, entity)"""
    return [
        (sentence, start, end, entity)
        for sentence, (start, end), entity in zip(
            found.sentences.tolist(), found.words.tolist(), found.entities.tolist(), strict=True
        )
    ]


def linked(folder: Path, names: dict, text: str, **more: object) -> dict[str, str]:
    """What is found in a sentence: text → id."""
    kb = load_kb(folder, names, **more)
    words = WordPieces.load(DEBUG_VOCAB).words(text)
    return {
        " ".join(words[start:end]): kb.entity_ids[entity] for _, start, end, entity in rows(Linker(kb).link([words]))
    }


def test_the_longest_name_from_left_to_right_is_found(tmp_path: Path) -> None:
    names = {"A": ("New York",), "B": ("New York City",), "C": ("York City Hall",), "D": ("York",)}
    assert linked(tmp_path / "kb", names, "He left New York City Hall for York, new york and New York.") == {
        "New York City": "B", "York": "D", "New York": "A",
    }  # fmt: skip


def test_names_do_not_go_on_in_the_next_sentence(tmp_path: Path) -> None:
    linker = Linker(load_kb(tmp_path / "kb", {"A": ("New York",), "B": ("New",), "C": ("York",)}))
    assert rows(linker.link([["In", "New"], [], ["York"]])) == [(2, 0, 1, 2)]  # "New" is a word, not a name
    assert rows(linker.link([["New", "York"]])) == [(0, 0, 2, 0)]
    assert rows(linker.link([])) == rows(linker.link([[], []])) == []


def test_names_are_cut_as_text_is(tmp_path: Path) -> None:
    names = {"A": ("St. John's College",), "B": ("Saint-Denis",), "C": ("AT&T",), "D": ("O.J. Simpson",)}
    text = "Saint-Denis-based (AT&T) met O.J. Simpson's St. John's College's team."
    assert set(linked(tmp_path / "kb", names, text).values()) == {"A", "B", "C", "D"}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Ada", True), ("Al", False), ("ada", False), ("iPod", True), ("May", False), ("Monday", False), ("He", False),
        ("The", False), ("However", False), ("May Day", True), ("The Who", True), ("1984", False),
        ("A1 B2 C3 D4 E5 F6 G7 H8", True), ("A1 B2 C3 D4 E5 F6 G7 H8 I9", False),
    ],
)  # fmt: skip
def test_which_names_are_matched(tmp_path: Path, name: str, found: bool) -> None:
    assert bool(linked(tmp_path / "kb", {"A": (name,)}, f"Then {name} came")) is found
    assert bool(linked(tmp_path / "kb", {"A": ("", name)}, f"Then {name} came")) is found


def test_titles_give_names_without_what_tells_them_apart(tmp_path: Path) -> None:
    names = {"A": ("",), "B": ("Denton, Texas", "Smith, John"), "C": ("Band (1990)",)}
    text = "Queen came to Denton , or Denton, Texas, not Smith with Band (1990)"
    assert linked(tmp_path / "kb", names, text, titles={"A": "Queen (band)"}) == {
        "Queen": "A", "Denton": "B", "Denton , Texas": "B", "Band": "C",
    }  # fmt: skip


def test_an_ambiguous_name_goes_by_rank_then_by_facts_then_by_order(tmp_path: Path) -> None:
    facts = [("A", "r", "x"), ("A", "r", "y"), ("B", "r", "x"), *(("C", f"r{number}", "x") for number in range(3))]
    names = dict.fromkeys("ABCD", ("Else",)) | {"x": (), "y": ()}

    def winner(titles: dict[str, str], **own: tuple[str, ...]) -> str:
        return linked(tmp_path / "kb", names | own, "Ash", triples=facts, titles=titles)["Ash"]

    alias = ("Else", "Ash")
    assert winner({"D": "Ash"}, A=("Ash",), B=alias) == "D"
    assert winner({"A": "Ash (tree)"}, D=("Ash",), B=alias) == "D"
    assert winner({"A": "Ash, Kent"}, D=("Ash",), B=alias) == "D"
    assert winner({"D": "Ash (tree)"}, A=alias) == "D"
    assert winner({"B": "Ash (tree)", "A": "Ash (band)", "D": "Ash (film)"}) == "A"
    assert winner({}, A=alias, B=alias, C=alias, D=alias) == "C"
    assert winner({"D": "Ash, Kent", "x": "Ash (film)"}) == "x"
    assert winner({}, D=alias, E=alias) == "D"


def test_ambiguous_names_are_counted(tmp_path: Path) -> None:
    linker = Linker(
        load_kb(tmp_path / "kb", {"A": ("Ash", "Ash"), "B": ("Oak", "Ash", "Oak"), "C": ("Elm Tree", "Ash")})
    )
    assert (linker.names, linker.ambiguous_names) == (3, 1)
    found = linker.link([["Ash", "and", "Oak"], ["Elm", "Tree", "Ash"]])
    assert found.counts == {"mentions": 4, "ambiguous_mentions": 2}


LETTERS = st.sampled_from(["Aaa", "Bbb", "Ccc", "ddd"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(LETTERS, min_size=1, max_size=4).map(" ".join), max_size=8),
    st.lists(st.lists(LETTERS, max_size=8), max_size=6),
)
def test_mentions_are_those_of_a_loop(tmp_path: Path, names: list[str], sentences: list[list[str]]) -> None:
    linker = Linker(load_kb(tmp_path / "kb", {f"Q{number}": (name,) for number, name in enumerate(names)}))
    expected = []
    for number, words in enumerate(sentences):
        start = 0
        while start < len(words):
            for end in range(len(words), start, -1):
                text = " ".join(words[start:end])
                if text in names and text != text.lower():
                    expected.append((number, start, end, names.index(text)))
                    start = end
                    break
            else:
                start += 1
    assert rows(linker.link(sentences)) == expected
