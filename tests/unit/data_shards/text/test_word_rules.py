import sys

import pytest

from data_shards.errors import UserError
from data_shards.text.word_pieces import WordPieces
from data_shards.text.word_rules import WordRules
from tests.unit.data_shards.text.test_word_pieces import DEBUG_VOCAB


def words(text: str, language: str) -> list[str]:
    return [text[start:end] for start, end in WordRules(language).locate_words(text)]


def test_in_chinese_runs_of_letters_and_of_digits_are_words() -> None:
    assert words("他1999年加入Google公司。", "zh") == ["他", "1999", "年", "加", "入", "Google", "公", "司", "。"]
    assert words("见 iPhone15,3.5% Café e\u0301t Москва\uff11\uff12", "zh") == [
        "见", "iPhone15", ",", "3", ".", "5", "%", "Café", "e\u0301t", "Москва\uff11\uff12",
    ]  # fmt: skip
    assert words("他用Google", "zho") == ["他", "用", "Google"]  # another code of the same language


def test_a_chinese_sentence_has_words_of_several_pieces() -> None:
    word_pieces = WordPieces.load(DEBUG_VOCAB, language="zh")
    records = word_pieces.encode_sentences(["他加入Fahldagoogle公司"])
    assert word_pieces.words("他加入Fahldagoogle公司") == ["他", "加", "入", "Fahldagoogle", "公", "司"]
    assert len(records.word_starts.values) == 6 < len(records.pieces.values)


def test_other_languages_keep_their_rules() -> None:
    assert words("3km from A1.", "en") == ["3", "km", "from", "A1", "."]


@pytest.mark.parametrize(
    ("language", "message"),
    [
        ("qq", "no word rules for language 'qq'"),
        ("without spacy", "names of relations, into words: pip install spacy$"),
        ("en.punctuation", "no word rules"),
        ("", "no word rules"),
        ("ja", "'ja' need a package: pip install sudachipy sudachidict_core"),
        ("jpn", "pip install sudachipy"),
        ("th", "pip install pythainlp"),
        ("vi", "pip install pyvi"),
        ("ko", "pip install natto-py"),
    ],
)
def test_a_language_without_rules_or_package_is_named(
    language: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("sudachipy", "pythainlp", "pyvi", "natto"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it was not installed
    if language == "without spacy":
        monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(UserError, match=message) as caught:
        words("a", language)
    assert "\n" not in str(caught.value)
