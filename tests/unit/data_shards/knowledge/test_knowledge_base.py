import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_shards.errors import UserError
from data_shards.knowledge.knowledge_base import KnowledgeBase
from data_shards.shards.record import UNLINKED
from tests.unit.data_shards.knowledge.knowledge_bases import load_kb, write_kb

pytestmark = pytest.mark.any_version

NAMES = {"Q1": ("Ada", "Countess"), "Q2": ("London",), "Q3": ()}
FACTS = [("Q1", "P19", "Q2"), ("Q2", "P17", "Q9"), ("Q1", "P19", "Q2"), ("Q1", "P20", "Q2")]


def test_a_folder_is_numbered_in_the_order_of_its_files(tmp_path: Path) -> None:
    kb = load_kb(
        tmp_path / "kb", NAMES, FACTS, {"P20": "place of death", "P19": "place of birth"}, {"Q2": "London (UK)"}
    )
    assert kb.entity_ids == ["Q1", "Q2", "Q3", "Q9"]
    assert list(kb.names) == [("Ada", "Countess"), ("London",), ("",), ("",)]
    assert kb.titles == {1: "London (UK)"}
    assert kb.relation_ids == ["P20", "P19", "P17"]
    assert kb.relation_names == ["place of death", "place of birth", "P17"]
    assert list(zip(kb.heads, kb.relations, kb.tails, strict=True)) == [(0, 0, 1), (0, 1, 1), (1, 2, 3)]
    assert kb.facts_of_entities().tolist() == [2, 3, 0, 1]


def test_the_fingerprint_is_that_of_the_files(tmp_path: Path) -> None:
    first = load_kb(tmp_path / "a", NAMES, FACTS).fingerprint
    assert load_kb(tmp_path / "b", NAMES, FACTS).fingerprint == first
    assert load_kb(tmp_path / "c", NAMES, FACTS[:-1]).fingerprint != first
    assert load_kb(tmp_path / "d", NAMES, FACTS, titles={"Q1": "Ada"}).fingerprint != first


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(*(st.integers(0, 6),) * 3), max_size=40),
    st.lists(st.tuples(*(st.sampled_from([*range(9), UNLINKED]),) * 2), max_size=30),
)
def test_relations_of_pairs_are_those_of_a_loop(
    tmp_path: Path, facts: list[tuple[int, int, int]], pairs: list[tuple[int, int]]
) -> None:
    kb = load_kb(
        tmp_path / "kb",
        {str(one): () for one in range(7)},
        [(str(head), f"R{relation}", str(tail)) for head, relation, tail in facts],
        {f"R{number}": "x" for number in range(7)},
    )
    heads, tails = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    expected = [
        (index, relation)
        for index, (head, tail) in enumerate(pairs)
        for relation in sorted({r for h, r, t in facts if (h, t) == (head, tail)})
    ]
    pair, relation = kb.relations_of_pairs(heads, tails)
    assert list(zip(pair.tolist(), relation.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("triples", b"Q1\tP19\tQ2\nQ1\tP19\n", "triples.tsv:2: expected 3 columns with tabs between them, found 2"),
        ("triples", b"Q1\tP19\tQ2\tQ3\n", "triples.tsv:1: expected 3 columns with tabs between them, found 4"),
        ("triples", b"\n\nQ1\t\tQ2\n", "triples.tsv:3: column 2 is empty"),
        ("names", b"Q1\tAda\nQ1\tEve\n", "names.tsv:2: id 'Q1' was on a line before"),
        ("names", b"Q1\tAda\n\xff\n", "names.tsv:2: invalid UTF-8"),
        ("names", b"\tAda\n", "names.tsv:1: column 1 is empty"),
        ("relations", b"P1\n", "relations.tsv:1: expected 2 columns"),
        ("titles", b"Q1\n", "titles.tsv:1: expected 2 columns"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    folder = write_kb(tmp_path / "kb", NAMES, FACTS)
    (folder / f"{file}.tsv").write_bytes(content)
    with pytest.raises(UserError, match=re.escape(message)):
        KnowledgeBase.load(folder)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    folder = write_kb(tmp_path / "kb", NAMES, FACTS)
    (folder / "relations.tsv").unlink()
    with pytest.raises(UserError, match=r"not a knowledge base, it lacks relations.tsv: make one with: spe kb convert"):
        KnowledgeBase.load(folder)
    with pytest.raises(UserError, match="lacks names"):
        KnowledgeBase.load(tmp_path / "none")


def test_tables_may_have_windows_lines_and_be_compressed_by_content(tmp_path: Path) -> None:
    folder = write_kb(tmp_path / "kb", NAMES, FACTS)
    before = KnowledgeBase.load(folder)
    names = folder / "names.tsv"
    names.write_bytes(gzip.compress(b"\xef\xbb\xbf" + names.read_bytes().replace(b"\n", b"\r\n")))
    after = KnowledgeBase.load(folder)
    assert list(after.names) == list(before.names)
    assert after.entity_ids == before.entity_ids
