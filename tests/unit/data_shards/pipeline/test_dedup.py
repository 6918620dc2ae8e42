"""Builds without duplicates against a loop over a build with them, in this process and stopped anywhere."""

import hashlib
import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from data_shards.errors import UserError
from data_shards.pipeline import finished_unit
from data_shards.pipeline.build_config import BuildConfig
from data_shards.pipeline.dedup import text_keys
from data_shards.ragged import Ragged
from data_shards.sample.corpus import generate, write_corpus
from data_shards.sample.documents import write_documents
from data_shards.shards.manifest import Manifest, Statistics, layer_sizes
from data_shards.shards.reader import ShardReader, verify
from data_shards.shards.record import DOCUMENT_LAYERS, ENTITIES, Records
from launcher.shards import main
from tests.unit.data_shards.conftest import DEBUG_VOCAB, build_here


def records_of(pieces: list[tuple[int, ...]]) -> Records:
    lengths = np.array([len(row) for row in pieces])
    values = np.array([piece for row in pieces for piece in row], dtype=np.uint16)
    return Records(Ragged.from_lengths(values, lengths), Ragged.from_lengths(np.zeros(len(pieces), int), lengths > 0))


def test_only_equal_pieces_have_equal_keys() -> None:
    """All texts of a few pieces: each other's permutations, beginnings, ends and repetitions."""
    rows = [row for length in range(9) for row in product((0, 1, 2, 40_000), repeat=length)]
    keys = text_keys(records_of(rows))
    assert len(set(keys.tolist())) == len(rows) > 80_000
    assert text_keys(records_of(rows[::-1])).tolist() == keys.tolist()[::-1]  # wherever they stand
    for bit in range(64):
        assert 0.49 < (keys >> np.uint64(bit) & np.uint64(1)).mean() < 0.51, bit


def write_corpora(folder: Path, seed: int) -> tuple[str, ...]:
    """Three files of 40 sentences, some of them in other letters, within and across documents, units and files."""
    draw = np.random.default_rng(seed)
    known = [" ".join(sentence.words) for sentence in generate(60, seed=seed)]
    known[0] += " \u0b95"  # an unknown piece
    texts = [known[index] for index in draw.integers(60, size=60)] + [known[0]] * 30 + known[30:60]
    texts = [text.upper() if draw.random() < 0.2 else text for text in draw.permutation(texts).tolist()]
    folder.mkdir()
    (folder / "a.txt").write_text("".join(f"{text}\n" for text in texts[:40]))
    documents = ["\n".join(texts[start : start + 2]) for start in range(40, 120, 2)]
    for name, part in (("b.jsonl", documents[:20]), ("c.jsonl", documents[20:])):
        (folder / name).write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    return tuple(str(folder / name) for name in ("a.txt", "b.jsonl", "c.jsonl"))


def all_records(folder: Path) -> Records:
    reader = ShardReader(folder)
    return reader.take(range(len(reader)))


def firsts_of(records: Records) -> list[int]:
    """Of records with equal pieces the first, by hand."""
    seen: dict[tuple[int, ...], int] = {}
    for number in range(len(records)):
        seen.setdefault(tuple(records.pieces.row(number).tolist()), number)
    return sorted(seen.values())


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


def check_against_a_build_with_duplicates(config: BuildConfig, folder: Path) -> tuple[Manifest, Manifest]:
    """Gives the manifests of a build with duplicates, and of one without, whose records are all compared."""
    with_duplicates = build_here(replace(config, out=folder / "all"))
    manifest = build_here(replace(config, out=folder / "unique", dedup=True))
    assert verify(folder / "unique") == []
    before, found = all_records(folder / "all"), all_records(folder / "unique")
    firsts = firsts_of(before)
    assert 0 < len(firsts) < len(before)
    expected = before.take(np.array(firsts))
    assert [*found.layers] == [*expected.layers]
    for name, layer in expected.layers.items():
        assert found.layers[name].values.tolist() == layer.values.tolist(), name
        assert found.layers[name].offsets.tolist() == layer.offsets.tolist(), name
    bounds = np.cumsum(with_duplicates.shard_records)
    in_shards = np.bincount(np.searchsorted(bounds, firsts, side="right"), minlength=len(bounds))
    assert manifest.shard_records == tuple(in_shards[in_shards > 0].tolist())
    unknown = manifest.tokenizer.special_ids.unk
    assert manifest.statistics == replace(
        with_duplicates.statistics,
        records=len(firsts),
        dropped={**with_duplicates.statistics.dropped, "duplicates": len(before) - len(firsts)},
        unknown_pieces=int((expected.pieces.values == unknown).sum()),
        **layer_sizes(expected),
    )
    changed = {"name", "shardlist", "statistics", "build", "entity_types", "relation_types"}
    assert vars(replace(manifest, **{name: getattr(with_duplicates, name) for name in changed})) == vars(
        with_duplicates
    )
    assert manifest.build == {**with_duplicates.build, "dedup": True}
    return with_duplicates, manifest


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_of_equal_records_the_first_stays(tmp_path: Path, seed: int) -> None:
    inputs = write_corpora(tmp_path / "in", seed)
    config = BuildConfig(inputs, tmp_path, DEBUG_VOCAB, unit_documents=3 + 2 * seed, block_records=4)
    check_against_a_build_with_duplicates(config, tmp_path)
    assert {path.split("/")[0] for path in files(tmp_path / "unique")} == {
        "manifest.json", "tokenizer", *(path.name for path in (tmp_path / "unique").glob("*.tar"))
    }  # fmt: skip
    assert not (tmp_path / "unique" / ".units").exists()


def test_a_unit_of_duplicates_has_no_shard_and_a_dataset_without_them_no_other_bytes(tmp_path: Path) -> None:
    lines = [" ".join(sentence.words) + "\n" for sentence in generate(12, seed=4)]
    (tmp_path / "a.txt").write_text("".join([*lines[:8], *lines[4:8], *lines[8:]]))
    config = BuildConfig((str(tmp_path / "a.txt"),), tmp_path, DEBUG_VOCAB, unit_documents=4)
    _, manifest = check_against_a_build_with_duplicates(config, tmp_path)
    assert [shard.url for shard in manifest.shardlist] == ["00-000000.tar", "00-000001.tar", "00-000003.tar"]
    (tmp_path / "b.txt").write_text("".join(lines))
    config = replace(config, inputs=(str(tmp_path / "b.txt"),))
    one, other = (build_here(replace(config, out=tmp_path / f"b{dedup}", dedup=dedup)) for dedup in (False, True))
    assert one.fingerprint == other.fingerprint
    assert other.statistics.dropped == {**one.statistics.dropped, "duplicates": 0}


class Stop(Exception):
    """Where a process is killed."""


def build_with_stops(config: BuildConfig, seed: int) -> int:
    """Build, stopped before a quarter of all writes of shards and markers and gone on with in any order; how often."""
    draw = np.random.default_rng(seed)
    write = finished_unit.write_atomically

    def write_or_stop(path: Path, content: bytes) -> None:
        if draw.random() < 0.25:
            raise Stop
        write(path, content)

    for stops in range(1000):
        with patch.object(finished_unit, "write_atomically", write_or_stop):
            try:
                build_here(config, backwards=bool(draw.integers(2)))
            except Stop:
                assert not (config.out / "manifest.json").exists()
                continue
        return stops
    raise AssertionError("it never ends")


def test_a_build_stopped_anywhere_has_the_bytes_of_one_that_was_not(tmp_path: Path) -> None:
    inputs = write_corpora(tmp_path / "in", 7)
    config = BuildConfig(
        inputs, tmp_path / "clean", DEBUG_VOCAB, name="x", unit_documents=10, block_records=4, dedup=True
    )
    build_here(config)
    assert build_with_stops(replace(config, out=tmp_path / "stopped"), seed=7) > 5
    assert files(tmp_path / "stopped") == files(tmp_path / "clean")


def stop_before_the_manifest(config: BuildConfig) -> None:
    """Build up to where the manifest is to be written."""
    with patch("data_shards.pipeline.build.finish_dataset", side_effect=Stop), pytest.raises(Stop):
        build_here(config)


def test_what_is_finished_is_used_unless_it_is_damaged_or_its_text_has_changed(tmp_path: Path) -> None:
    inputs = write_corpora(tmp_path / "in", 5)
    config = BuildConfig(inputs, tmp_path / "out", DEBUG_VOCAB, name="x", unit_documents=5, block_records=8, dedup=True)
    stop_before_the_manifest(config)
    finished = files(config.out)
    (config.out / ".units" / "with_duplicates" / ".00-000000.tar.1.tmp").write_text("left by a killed process")
    with patch.object(finished_unit, "_write_shard", side_effect=AssertionError):
        stop_before_the_manifest(config)
    assert files(config.out) == finished
    for path in (*config.out.glob("*1.tar"), *config.out.glob(".units/with_duplicates/*2.tar")):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    stop_before_the_manifest(config)
    assert files(config.out) == finished
    lines = Path(inputs[0]).read_text().splitlines(keepends=True)
    Path(inputs[0]).write_text("".join(lines[20:]))  # what only these had is no duplicate any more in the other files
    build_here(config)
    build_here(replace(config, out=tmp_path / "clean"))
    assert files(config.out) == files(tmp_path / "clean")


def test_settings_say_whether_duplicates_were_dropped(tmp_path: Path) -> None:
    config = BuildConfig(write_corpora(tmp_path / "in", 6), tmp_path / "out", DEBUG_VOCAB, dedup=True)
    stop_before_the_manifest(config)
    plain = replace(config, dedup=False)
    build_here(plain)  # goes on in the folder, with nothing of the other build
    assert verify(plain.out) == [] and not (plain.out / ".units").exists()
    assert ShardReader(plain.out).manifest.statistics == build_here(replace(plain, out=tmp_path / "p")).statistics
    with pytest.raises(UserError, match=r"other settings \(dedup differ\)"):
        build_here(config)


def test_entities_are_those_of_what_stays(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a.jsonl", sentences=50, seed=1)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    again = [*lines[10:30], *({**line, "entities": []} for line in lines[:10])]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(line) + "\n" for line in again))
    inputs = (str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"))
    config = BuildConfig(inputs, tmp_path, DEBUG_VOCAB, gold_entities=True, unit_documents=20, block_records=8)
    before, after = check_against_a_build_with_duplicates(config, tmp_path)
    assert [*after.entity_types] == [*before.entity_types]
    types = all_records(tmp_path / "unique").entities.values[:, 2]
    assert [*after.entity_types.values()] == np.bincount(types, minlength=len(after.entity_types)).tolist()
    assert sum(after.entity_types.values()) < sum(before.entity_types.values())


def test_what_is_repeated_may_not_be_there_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text of a build says how often a sentence occurred, not that one of them was kept."""
    write_corpus(tmp_path / "a.jsonl", sentences=5, seed=1)
    heading = json.dumps({"text": "Early life.", "tokens": ["Early", "life", "."], "entities": []}) + "\n"
    (tmp_path / "a.jsonl").write_text((tmp_path / "a.jsonl").read_text() + 2 * heading)
    options: dict[str, Any] = {"gold_entities": True, "min_entities": 1, "dedup": True}
    config = BuildConfig((str(tmp_path / "a.jsonl"),), tmp_path / "out", DEBUG_VOCAB, **options)
    assert build_here(config).statistics.dropped["too_few_entities"] >= 2
    main(["info", str(config.out)])
    assert "  repeated  2 times or more before duplicates were dropped: Early life .\n" in capsys.readouterr().out


def test_documents_are_dropped_like_sentences(tmp_path: Path) -> None:
    write_documents(tmp_path / "sample", documents=40, seed=2, annotated={})
    path = tmp_path / "sample" / "documents.json"
    documents = json.loads(path.read_text())
    path.write_text(json.dumps([*documents, *documents[5:25]]))
    options: dict[str, Any] = {"documents": True, "min_words": 20, "unit_documents": 9, "block_records": 4}
    config = BuildConfig((str(path),), tmp_path, DEBUG_VOCAB, **options)
    before, after = check_against_a_build_with_duplicates(config, tmp_path)
    assert {ENTITIES, *DOCUMENT_LAYERS} <= {*after.layers}
    relations = all_records(tmp_path / "unique").layers["relations"].values[:, 2]
    facts = [relation.facts for relation in after.relation_types.values()]
    assert facts == np.bincount(relations, minlength=len(facts))[: len(facts)].tolist()
    assert sum(facts) < sum(relation.facts for relation in before.relation_types.values())


def test_what_is_left_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("Early life.\nShe was born in Rome.\nearly life.\nEarly life.\n")
    config = BuildConfig((str(tmp_path / "a.txt"),), tmp_path / "out", DEBUG_VOCAB, dedup=True)
    assert build_here(config).statistics == Statistics(
        documents=4, sentences=4, records=2, words=9, pieces=ShardReader(config.out).manifest.shardlist[0].pieces,
        dropped={"too_few_words": 0, "too_many_words": 0, "too_many_pieces": 0, "duplicates": 2},
        repeated={"Early life.": 2},
    )  # fmt: skip
    main(["info", str(config.out)])
    said = capsys.readouterr().out
    assert "2 records in 1 shard" in said and ", 2 duplicates; 0 bad lines" in said
    assert "  repeated  2 times or more before duplicates were dropped: Early life.\n" in said
    main(["info", str(config.out), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["statistics"]["dropped"]["duplicates"] == 2 and told["build"]["dedup"] is True
