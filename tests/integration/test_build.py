"""Building: the same bytes however it is run, interrupted or short of space.

Tests of what a build says and writes, whatever runs it, build in this process: a tenth of the time.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_shards.errors import UserError
from data_shards.pipeline.build import build, build_with_summary
from data_shards.pipeline.build_config import BuildConfig, SentencesConfig
from data_shards.pipeline.sentences import cut_sentences
from data_shards.sample.documents import write_documents as write_sample
from data_shards.shards import manifest
from data_shards.shards.reader import ShardReader, verify
from tests.unit.data_shards.conftest import build_here

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def tars(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.tar"))}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_ray_gives_the_bytes_of_a_build_in_one_process(config: BuildConfig, dataset: Path, tmp_path: Path) -> None:
    build_here(replace(config, out=tmp_path / "here"))
    assert tars(tmp_path / "here") == tars(dataset)
    assert len(tars(dataset)) == 8
    assert names(tmp_path / "here") == {*tars(dataset), "manifest.json", "tokenizer"}


def sample_of_documents(folder: Path) -> Path:
    """Gold, text, a knowledge base, and documents to exclude."""
    write_sample(folder / "sample", documents=60, seed=3, annotated={"test": 10})
    return folder / "sample"


def documents_of_text(sample: Path) -> dict[str, Any]:
    """Settings that take mentions and facts from a knowledge base, without those of the documents to exclude."""
    return {
        "documents": True, "min_words": 20, "kb": str(sample / "kb"), "exclude_facts": [str(sample / "test.json")]
    }  # fmt: skip


@pytest.mark.parametrize("name", ["documents.json", "text.jsonl"])
def test_documents_have_the_same_bytes_at_any_parallelism(
    config: BuildConfig, dataset: Path, tmp_path: Path, name: str
) -> None:
    sample = sample_of_documents(tmp_path)
    options = documents_of_text(sample) if name == "text.jsonl" else {"documents": True, "min_words": 20}
    given = replace(config, inputs=(str(sample / name),), unit_documents=7, block_records=5, **options)
    build_here(replace(given, out=tmp_path / "0"))
    built = build_with_summary(replace(given, out=tmp_path / "2", parallelism=2))
    assert built.units == 9 and verify(tmp_path / "2") == []
    assert tars(tmp_path / "0") == tars(tmp_path / "2")
    cut = {n: cut_sentences(SentencesConfig(str(tmp_path / "2"), tmp_path / f"s{n}", workers=n)) for n in (1, 2)}
    assert tars(tmp_path / "s1") == tars(tmp_path / "s2") and verify(tmp_path / "s2") == []
    counts = cut[2].manifest.statistics
    assert counts.sentences == built.manifest.statistics.further["sentence_starts"]
    assert counts.records + sum(counts.dropped.values()) == counts.sentences
    assert cut[2].manifest.language == "en" and cut[2].manifest.build["entities"]["min_entities"] == 2
    with pytest.raises(UserError, match=r"no sentence of .* has 30 entities"):
        cut_sentences(SentencesConfig(str(tmp_path / "2"), tmp_path / "none", min_entities=30))
    with pytest.raises(UserError, match="has no documents with entities and relations"):
        cut_sentences(SentencesConfig(str(dataset), tmp_path / "none"))


def write_documents(path: Path, documents: list[str]) -> Path:
    """In the format that the name asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": documents}), path, row_group_size=7)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    else:
        blocks = (f'<doc id="{i}" title="T {i}">\nT {i}\n\n{d}\n\n</doc>\n' for i, d in enumerate(documents))
        path.write_text("".join(blocks))
    return path


@pytest.fixture
def other_formats(documents: list[str], tmp_path: Path) -> Path:
    """A folder of two files of WikiExtractor's and a Parquet file, a third of the documents in each."""
    folder = tmp_path / "in"
    for number, name in enumerate(("AA/wiki_00", "AA/wiki_01", "rows.parquet")):
        write_documents(folder / name, documents[80 * number : 80 * (number + 1)])
    return folder


def test_parquet_and_wiki_extractor_give_the_records_of_jsonl_at_any_parallelism(
    config: BuildConfig, dataset: Path, other_formats: Path, tmp_path: Path
) -> None:
    other = replace(config, inputs=(str(other_formats),))
    built = build(replace(other, out=tmp_path / "2", parallelism=2))
    build_here(replace(other, out=tmp_path / "1"))
    assert tars(tmp_path / "1") == tars(tmp_path / "2")
    assert [shard.url[:2] for shard in built.shardlist] == ["00"] * 3 + ["01"] * 3 + ["02"] * 3
    assert [entry["name"] for entry in built.build["inputs"]] == ["AA/wiki_00", "AA/wiki_01", "rows.parquet"]
    assert verify(tmp_path / "1") == []
    here, there = (records_of(folder) for folder in (tmp_path / "1", dataset))
    assert here == there


def records_of(folder: Path) -> list[list[int]]:
    reader = ShardReader(folder)
    records = reader.take(range(len(reader)))
    return [records.pieces.row(index).tolist() for index in range(len(records))]


def test_duplicates_are_dropped_the_same_at_any_parallelism(
    config: BuildConfig, dataset: Path, other_formats: Path, tmp_path: Path
) -> None:
    every_document_twice = replace(config, inputs=(*config.inputs, str(other_formats)), name="x", dedup=True)
    built = build_with_summary(replace(every_document_twice, out=tmp_path / "2", parallelism=2))
    build_here(replace(every_document_twice, out=tmp_path / "1"))
    assert tars(tmp_path / "1") == tars(tmp_path / "2") and verify(tmp_path / "2") == []
    assert (tmp_path / "1" / "manifest.json").read_bytes() == (tmp_path / "2" / "manifest.json").read_bytes()
    once = {*map(tuple, records_of(dataset))}
    assert {*map(tuple, records_of(tmp_path / "2"))} == once and built.manifest.statistics.records == len(once)
    assert (built.units, built.units_reused) == (17, 0)


def test_rows_and_blocks_that_are_no_document_count_as_bad_lines(config: BuildConfig, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["Some words here .", None]}), tmp_path / "rows.parquet")
    (tmp_path / "wiki_00").write_text('<doc id="1" title="x">\nNo end .\n')
    bad = replace(config, inputs=(str(tmp_path / "rows.parquet"), str(tmp_path / "wiki_00")), out=tmp_path / "out")
    with pytest.raises(UserError, match="more than 1 bad") as caught:
        build_here(replace(bad, max_bad_lines=1))
    for line in ("rows.parquet:2: null", "wiki_00:1: <doc …> without </doc>"):  # in the order in which they were met
        assert line in str(caught.value)
    assert build_here(bad).statistics.bad_lines == 2


def test_what_a_file_holds_counts_more_than_its_ending(
    config: BuildConfig, documents: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    write_documents(folder / "wiki_00", documents[:20]).rename(folder / "all.txt")
    (folder / "list.json").write_text(json.dumps([{"text": document} for document in documents[20:40]], indent=1))
    pq.write_table(pa.table({"text": pa.nulls(3)}), folder / "part-1.parquet")
    built = build_here(replace(config, inputs=(str(folder),), out=tmp_path / "out"))
    assert [part["format"] for part in built.build["inputs"]] == ["wikiextractor", "json", "parquet"]
    assert (built.statistics.documents, built.statistics.bad_lines) == (40, 3)
    as_lines = write_documents(tmp_path / "a.jsonl", documents[:40])
    build_here(replace(config, inputs=(str(as_lines),), out=tmp_path / "lines"))
    assert records_of(tmp_path / "out") == records_of(tmp_path / "lines")


def test_a_missing_column_ends_the_build_with_its_name(
    config: BuildConfig, other_formats: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"rows\.parquet: no column 'body', only text"):
        build_here(
            replace(config, inputs=(str(other_formats / "rows.parquet"),), out=tmp_path / "out", text_field="body")
        )


def test_one_big_file_is_built_by_several_workers(config: BuildConfig, tmp_path: Path) -> None:
    """Were reading and building fused into one stage, one process would do it all."""
    summary = build_with_summary(replace(config, out=tmp_path / "out", unit_documents=6, parallelism=2))
    assert summary.units == 40
    assert summary.workers >= 2


def test_no_path_of_this_machine_is_recorded(dataset: Path, corpus: Path) -> None:
    text = (dataset / "manifest.json").read_text()
    assert str(corpus.parent) not in text and str(dataset) not in text
    assert "corpus.jsonl" in text


def test_a_finished_dataset_is_left_alone(config: BuildConfig, dataset: Path) -> None:
    before = (dataset / "manifest.json").stat().st_mtime_ns
    assert build_with_summary(config).workers == 0
    assert (dataset / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"other settings \(max_words differ\)"):
        build(replace(config, max_words=20))


def test_other_peoples_folders_are_left_alone(config: BuildConfig, tmp_path: Path) -> None:
    (tmp_path / "00-000000.tar").write_text("mine")
    with pytest.raises(UserError, match="contains other files than a dataset"):
        build_here(replace(config, out=tmp_path))
    with pytest.raises(UserError, match="is a file"):
        build_here(replace(config, out=tmp_path / "00-000000.tar"))
    assert (tmp_path / "00-000000.tar").read_text() == "mine"


def test_sentences_outside_the_limits_are_dropped_and_counted(config: BuildConfig, tmp_path: Path) -> None:
    lines = ["One", "Two words", "a b c d e", "internationalisation counterrevolutionaries", "\x00", "", "Two more"]
    path = tmp_path / "a.txt"
    path.write_text("\n".join(lines))
    limits = replace(config, inputs=(str(path),), max_words=4, max_pieces=8, unit_documents=None)
    counts = build_here(replace(limits, out=tmp_path / "out")).statistics
    assert counts.dropped == {"too_few_words": 2, "too_many_words": 1, "too_many_pieces": 1}
    assert (counts.documents, counts.sentences, counts.records, counts.words) == (6, 6, 2, 4)
    with pytest.raises(UserError, match="no sentence was kept"):
        build_here(replace(limits, out=tmp_path / "none", min_words=3, max_words=3))


def test_bad_lines_are_counted_up_to_the_limit(config: BuildConfig, corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    good = corpus.read_text().splitlines()[:4]
    path.write_text("\n".join([good[0], "{broken", *good[1:], '{"no": "text"}']) + "\n")
    bad = replace(config, inputs=(str(path),), out=tmp_path / "out")
    with pytest.raises(UserError, match=r"more than 1 bad line .*bad\.jsonl:2: invalid JSON.*bad\.jsonl:6: no field"):
        build(replace(bad, max_bad_lines=1))
    assert not (tmp_path / "out" / "manifest.json").exists()
    result = build(replace(bad, max_bad_lines=2))
    assert result.statistics.bad_lines == 2 and result.statistics.documents == 4


def test_a_damaged_input_ends_the_build_with_its_name(config: BuildConfig, tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00" + b"\x00" * 20)
    with pytest.raises(UserError, match=r"cut\.jsonl\.gz: damaged or truncated"):
        build(replace(config, inputs=(*config.inputs, str(path)), out=tmp_path / "out"))


def test_inputs_keep_their_order_and_names(config: BuildConfig, corpus: Path, tmp_path: Path) -> None:
    text = tmp_path / "more.txt"
    text.write_text("A sentence of its own .\n" * 70)
    result = build_here(replace(config, inputs=(str(text), str(corpus)), out=tmp_path / "out"))
    assert [shard.url for shard in result.shardlist][:4] == [f"00-00000{i}.tar" for i in range(3)] + ["01-000000.tar"]
    assert [shard.nsamples for shard in result.shardlist][:3] == [1, 1, 1]
    assert verify(tmp_path / "out") == []


RUN = """
import json
import sys
from pathlib import Path
from data_shards.pipeline.build import build_with_summary
from data_shards.pipeline.build_config import BuildConfig
source, out, tokenizer, options = sys.argv[1:]
options = json.loads(options) | {"unit_documents": 4, "parallelism": 1}
build_with_summary(BuildConfig((source,), Path(out), tokenizer, **options))
"""


def kill_when_units_are_finished(program: str, arguments: Sequence[str], out: Path, *, units: int) -> None:
    """Start a Python program that writes a dataset, and kill it and its Ray when so many units are finished."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], start_new_session=True, env=environment)
    try:
        deadline = time.monotonic() + 300
        while len(list(out.glob(".units/*.json"))) < units:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize(
    "name", ["corpus.jsonl", *(pytest.param(name, marks=pytest.mark.slow) for name in ("documents", "rows.parquet"))]
)
def test_a_killed_build_goes_on_where_it_stopped(
    config: BuildConfig, documents: list[str], tmp_path: Path, name: str
) -> None:
    options: dict[str, Any] = {}
    if name == "documents":
        sample = sample_of_documents(tmp_path)
        options = documents_of_text(sample)
        config = replace(config, inputs=(str(sample / "text.jsonl"),), **options)
    else:
        config = replace(config, inputs=(str(write_documents(tmp_path / name, documents)),))
    clean, killed = tmp_path / "clean", tmp_path / "killed"
    arguments = [config.inputs[0], str(killed), config.tokenizer, json.dumps(options)]
    kill_when_units_are_finished(RUN, arguments, killed, units=3)
    with pytest.raises(UserError, match="is not a dataset"):
        manifest.load(killed)
    finished = {path.stem: (killed / f"{path.stem}.tar") for path in killed.glob(".units/*.json")}
    written = {tar.name: tar.stat().st_mtime_ns for tar in finished.values()}
    damaged = sorted(written)[0]
    (killed / damaged).write_bytes((killed / damaged).read_bytes()[:-1] + b"x")
    (killed / "00-999999.tar").write_bytes(b"left by a build with other settings")
    small = replace(config, unit_documents=4, block_records=2048)
    summary = build_with_summary(replace(small, out=killed))
    build_here(replace(small, out=clean))
    assert summary.units_reused == len(finished) - 1
    assert all((killed / name).stat().st_mtime_ns == at for name, at in written.items() if name != damaged)
    assert tars(killed) == tars(clean)
    assert (killed / "manifest.json").read_text() == (clean / "manifest.json").read_text().replace(
        '"clean"', '"killed"'
    )


def test_an_unfinished_build_with_other_settings_is_not_mixed_in(config: BuildConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="no sentence was kept"):
        build_here(replace(config, out=out, max_words=2))
    summary = build_with_summary(replace(config, out=out))
    assert summary.units_reused == 0
    assert verify(out) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip() or 'not root'}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_one_clear_line_and_leaves_nothing_half_written(config: BuildConfig, small_disk: Path) -> None:
    out = small_disk / "out"
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - (140 << 10)))
    with pytest.raises(UserError, match=rf"no space left in {out}"):
        build(replace(config, out=out))
    assert not (out / "manifest.json").exists()
    markers = [json.loads(path.read_text()) for path in out.glob(".units/*.json")]
    assert 0 < len(markers) < 8
    listed = {marker["shard"]["url"]: marker["shard"]["sha256"] for marker in markers}
    assert listed.items() <= tars(out).items()
    assert not list(out.glob(".*.tmp"))
    filler.unlink()
    build_here(replace(config, out=out, unit_documents=60))
    assert verify(out) == []
