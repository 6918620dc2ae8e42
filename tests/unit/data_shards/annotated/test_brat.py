"""Folders of brat: laid out as its documentation has them, malformed ones, and names of the files that are written."""

from collections import Counter

import pytest

from data_shards.annotated.brat import BratText, files_of
from data_shards.annotated.document import Document, Fact
from data_shards.annotated.read import read_documents
from data_shards.annotated.read_report import BRAT_LINES, DISCONTINUOUS, NOT_ANNOTATED, WITH_ITSELF, WITHOUT_ENTITY
from data_shards.annotated.write import write_documents
from data_shards.errors import UserError
from tests.unit.data_shards.annotated.test_other_formats import ADA, EMOJI, LONDON, SHE, files, named


def test_a_folder_of_brat(tmp_path):
    person = f"Person {ADA} {ADA + 9}"
    lines = [
        f"T1\t{person}\tAda Byron",
        f"T2\tPlace {LONDON} {LONDON + 6}\tLondon",
        f"T3\tPerson {SHE} {SHE + 3}\tShe",
        f"T4\tTwo {ADA} {ADA + 3};{LONDON} {LONDON + 6}\tAda London",
        f"T5\tOverLines {LONDON} {LONDON + 7};{SHE} {SHE + 3}\tLondon. She",
        "E1\tOverLines:T5 Who:T1",
        "R1\tlives_in Arg1:T1 Arg2:T2\t",
        "R2\tabout Arg1:E1 Arg2:T2",
        "R3\tsame Arg1:T1 Arg2:T3",
        "*\tEquiv T1 T3",
        "*\tEquiv T5 T3",
        "*\tEquiv ",
        "A1\tNegation E1",
        "N1\tReference T1 Wikidata:Q7259\tAda Lovelace",
        "#1\tAnnotatorNotes T1\tsure",
        "",
    ]
    folder = files(tmp_path / "brat", doc2_txt=EMOJI, doc2_ann="\n".join(lines), doc10_txt="Ada.", doc10_ann="",
                   lonely_txt="Nobody looked at it.")  # fmt: skip
    (document, empty), report = read_documents(folder)
    assert (document.name, document.text, empty.name) == ("doc2", EMOJI, "doc10")
    assert named(document) == [
        ("Ada Byron", "Person", 0), ("London", "Place", 1), ("She", "Person", 0),
        ("Ada Byron lives in London", "Two", 2), ("London.\r\nShe", "OverLines", 0),
    ]  # fmt: skip
    assert document.facts == (Fact(0, 1, "lives_in"),)
    other = Counter(BRAT_LINES[letter] for letter in "EAN#")
    assert report.findings == {DISCONTINUOUS: 1, WITHOUT_ENTITY: 1, WITH_ITSELF: 1, NOT_ANNOTATED: 1} | other
    assert str(folder / "doc2.ann") in report.places[0]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("T1\tPerson 0 3\tBob", "says 'Bob', but its characters are 'Ada'"),
        ("T1\tPerson 0 9\tAda", "of type 'Person' .*but the text has 4"),
        ("T1 Person 0 3 Ada", r"a\.ann:1: 'T1 Person 0 3 Ada' is no line of brat"),
        ("T1\tPerson 0\tAda", r"a\.ann:1: 'Person 0': expected a type, first and last"),
        (f"T1\tPerson 0 {10**20}\tAda", "expected a type, first and last"),
        ("R1\tin T1 T2", r"a\.ann:1: 'in T1 T2': expected a type and two arguments"),
        ("T1\tPerson 0 3\tAda\nT1\tPerson 3 4\t.", r"a\.ann:2: line 1 has the id T1 too: give each entity its own"),
    ],
)
def test_what_is_malformed_in_brat_is_told(tmp_path, line, error):
    with pytest.raises(UserError, match=error):
        read_documents(files(tmp_path / "brat", a_txt="Ada.", a_ann=line))
    with pytest.raises(UserError, match=r"there is no a\.txt beside it"):
        read_documents(files(tmp_path / "other", a_ann=line))


def test_texts_of_one_name_are_written_to_brat_without_loss(tmp_path):
    names = ["text 3", "text 0", "x", "x", "X", "", "text 3", "text 5", "text 4"]
    documents = [Document(str(number), name=name) for number, name in enumerate(names)]
    lost = write_documents(documents, tmp_path / "brat", "brat", "en")
    found, _ = read_documents(tmp_path / "brat")
    assert sorted(one.text for one in found) == [str(number) for number in range(len(names))]
    assert [next(one.name for one in found if one.text == text) for text in "012"] == ["text 3", "text 0", "x"]
    assert list(lost.values()) == [6]


def test_half_of_a_surrogate_pair_in_a_name_is_replaced_in_names_of_files():
    text = BratText(Document("Ada.", name="a \ud800"), [])
    assert [name for name, _ in files_of([text], Counter())] == ["a %3F.txt", "a %3F.ann", "annotation.conf"]
