"""What of a text becomes records, one unit at a time and without Ray."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from data_shards.pipeline.build_config import RecordLimits
from data_shards.pipeline.corpus import TextFormat, read_units, resolve_sources
from data_shards.pipeline.finished_unit import FinishedUnit
from data_shards.pipeline.unit_builder import TOKENIZER_FOLDER, UnitPlan, build_unit
from data_shards.pipeline.unit_pipeline import Units
from data_shards.shards import manifest
from data_shards.shards.manifest import Statistics, most_repeated
from data_shards.shards.reader import ShardReader
from data_shards.shards.record_words import RecordWords
from data_shards.text.word_pieces import WordPieces
from tests.unit.data_shards.pipeline.test_entity_units import write_manifest
from tests.unit.data_shards.text.test_word_pieces import DEBUG_VOCAB

ARTICLE = """Ada

Ada was a painter. She left.
Early life.
She was born in Paris. History.
Why Rome?
She liked the old town of Rome.

Death and legacy!
  See also.
there she had friends.
See the list of works by her friends.
She left.

"""


def build(
    out: Path,
    text: str,
    text_format: TextFormat,
    *,
    min_words: int = 2,
    language: str = "en",
    documents: int | None = None,
) -> list[FinishedUnit]:
    (out / ".units").mkdir(parents=True)
    (out / "in.txt").write_text(text)
    word_pieces = WordPieces.load(DEBUG_VOCAB)
    word_pieces.save(out / TOKENIZER_FOLDER)
    sources = resolve_sources([str(out / "in.txt")], text_format, out)
    plan = UnitPlan(out, sources, f"{out}", "text", language, 64, RecordLimits(min_words, 128, 128))
    units = [build_unit(plan, unit) for unit in read_units(sources[0], 0, text_field="text", unit_documents=documents)]
    again = [build_unit(plan, unit) for unit in read_units(sources[0], 0, text_field="text", unit_documents=documents)]
    assert again == [(unit, True) for unit, _ in units]  # what a marker holds is all of it
    write_manifest(out, [unit for unit, _ in units], None, word_pieces, 64)
    return [unit for unit, _ in units]


def texts(out: Path) -> list[str]:
    shards = ShardReader(out)
    words = RecordWords(Tokenizer.from_file(str(out / TOKENIZER_FOLDER / "tokenizer.json")))
    return [" ".join(one) for one in words.words(shards.take(range(len(shards))))]


def test_headings_of_wiki_extractor_are_left_out_and_counted(tmp_path: Path) -> None:
    document = f'<doc id="1" title="Ada">\n{ARTICLE}</doc>\n'
    (unit,) = build(tmp_path / "wiki", document * 2, "wikiextractor")
    kept = [
        "ada was a painter .", "she left .", "she was born in paris .", "she liked the old town of rome .",
        "there she had friends .", "see the list of works by her friends .", "she left .",
    ]  # fmt: skip
    assert texts(tmp_path / "wiki") == kept * 2
    assert unit.statistics.dropped == {
        "headings": 8, "too_few_words": 2, "too_many_words": 0, "too_many_pieces": 0,
    }  # fmt: skip
    assert unit.statistics.sentences == 24


def test_short_lines_of_other_text_are_no_headings(tmp_path: Path) -> None:
    (unit,) = build(tmp_path / "lines", "Early life.\nShe was born in Paris.\n", "text")
    assert unit.statistics.records == 2 and "headings" not in unit.statistics.dropped


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("en", "History .", 1),
        ("en", "* * ( Yes ! ) — — 1 _", 2),
        ("en", "Don't", 2),
        ("en", "...", 0),
        ("en", "a-b c", 3),
        ("zh", "在东京Google。", 4),
    ],
)
def test_punctuation_is_no_word_to_the_least_number_of_words(
    tmp_path: Path, language: str, text: str, words: int
) -> None:
    for least in {words, words + 1} - {0}:
        out = tmp_path / str(least)
        (unit,) = build(out, f"{text}\n", "text", min_words=least, language=language)
        assert unit.statistics.dropped["too_few_words"] == (words < least), least


def test_unknown_pieces_and_repeated_sentences_are_counted(tmp_path: Path) -> None:
    lines = ["It is \u0b95\u0b96 here.", "She left.", "She left.", "He \u0b95 left.", "Yes.", "Yes."]
    units = build(tmp_path / "out", "".join(f"{line}\n" for line in [*lines, *lines]), "text", documents=6)
    assert [unit.repeated for unit in units] == [{"She left.": 2}] * 2  # what was dropped does not count
    total = Units(units, 1, 0).statistics
    assert total.repeated == {"She left.": 4}
    assert total.unknown_pieces == 4 and total.pieces > 20


def test_the_most_repeated_are_few_and_their_order_is_fixed() -> None:
    counts = {"c": 2, "b": 3, "a": 3, "once": 1, "d": 2}
    assert list(most_repeated(counts, 3).items()) == [("a", 3), ("b", 3), ("c", 2)]
    assert most_repeated(dict(reversed(counts.items())), 3) == most_repeated(counts, 3)


def test_manifests_from_before_the_counts_are_read(tmp_path: Path) -> None:
    build(tmp_path / "out", "She left.\nShe left.\n", "text")
    now = manifest.load(tmp_path / "out")
    path = tmp_path / "out" / manifest.MANIFEST_NAME
    document = json.loads(path.read_text())
    for key in ("unknown_pieces", "repeated"):
        del document["statistics"][key]
    path.write_text(json.dumps(document))
    assert manifest.load(tmp_path / "out").fingerprint == now.fingerprint
    assert manifest.load(tmp_path / "out").statistics == Statistics(**document["statistics"])
