"""`spe predict` into a folder: shards and a manifest, resumed exactly once, whoever predicts."""

import gzip
import hashlib
import io
import json
import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_shards.errors import UserError
from data_shards.pipeline.corpus import resolve_sources
from launcher.cli import dispatch
from launcher.predict_corpus import on_ray, plan, progress
from launcher.predict_corpus.on_ray import Workers
from launcher.predict_corpus.plan import Plan, Unit, read_part
from launcher.predict_corpus.progress import Progress, duration_text
from spe_dist.engine.world import World
from spe_dist.train import run_lock
from spe_dist.train.run_lock import RunLock
from tests.unit.spe_dist.extraction.lively import save_lively

TEXTS = [f"In {place} lives {name}, who works for Acme Inc. She {verb}." for place in ("Paris", "Rome", "Warsaw")
         for name in ("Ann", "Marie Curie") for verb in ("left", "stayed")]  # fmt: skip
WORDS = TEXTS[0].split()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_lively(tmp_path_factory.mktemp("lively") / "model")


@pytest.fixture
def predict(model, capsysbinary):
    """Run the command; gives what it says on standard error."""

    def run(*arguments) -> str:
        dispatch(["predict", str(model), *map(str, arguments)])
        out, err = capsysbinary.readouterr()
        assert out == b""
        return err.decode()

    return run


@pytest.fixture
def corpus(tmp_path) -> Path:
    """Every format, in the order of the names."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    objects = [json.dumps({"id": number, "text": text}) for number, text in enumerate(TEXTS)]
    (folder / "a.txt").write_text("\n".join([*TEXTS[:5], "", *TEXTS[5:]]))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n\n".join(objects).encode()))
    (folder / "c.json").write_text(json.dumps([{"doc_key": "d", "sentences": [WORDS, WORDS[:4]]}] * 5, indent=1))
    (folder / "d.conll").write_text("".join("\n".join(f"{word} O" for word in WORDS) + "\n\n" for _ in range(4)))
    pq.write_table(pa.table({"text": TEXTS, "n": range(len(TEXTS))}), folder / "e.parquet")
    (folder / "n\udcff.txt").write_text(TEXTS[0])  # a name that is no Unicode
    blocks = (f'<doc id="{n}" title="T">\nT\n\n{text}\n\n</doc>\n' for n, text in enumerate(TEXTS))
    (folder / "wiki_00").write_text("".join(blocks))
    return folder


def lines_of(*paths: Path) -> list[dict]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def without_scores(found: dict) -> dict:
    """Rounding in batches of other shapes changes the last digits of scores."""
    parts = {name: [{**one, "score": None} for one in found[name]] for name in ("entities", "relations")}
    return found | parts


@pytest.mark.parametrize("part_bytes", [plan.PART_BYTES, 1])
def test_shards_hold_what_one_file_holds_and_the_manifest_says_what_that_is(
    predict, corpus, tmp_path, monkeypatch, part_bytes
):
    monkeypatch.setattr(plan, "PART_BYTES", part_bytes)  # a part for all inputs, or one for each
    said = predict(corpus, "--out", tmp_path / "one.jsonl")
    predict(corpus, "--out", tmp_path / "found", "--records-per-file", "5")
    shards = sorted((tmp_path / "found").glob("*.jsonl"))
    one, many = lines_of(tmp_path / "one.jsonl"), lines_of(*shards)
    assert [without_scores(found) for found in many] == [without_scores(found) for found in one]
    manifest = json.loads((tmp_path / "found" / "manifest.json").read_text())
    assert [shard["file"] for shard in manifest["shards"]] == [path.name for path in shards]
    for path, shard in zip(shards, manifest["shards"], strict=True):
        data = path.read_bytes()
        assert (shard["bytes"], shard["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert shard["counts"]["texts"] == len(data.splitlines())
    entities = Counter(entity["type"] for found in one for entity in found["entities"])
    relations = Counter(relation["type"] for found in one for relation in found["relations"])
    assert manifest["counts"]["texts"] == len(one) == 4 * 12 + 1 + 10 + 4 + 1
    assert (manifest["counts"]["entities"], manifest["counts"]["relations"]) == (dict(entities), dict(relations))
    assert f"{sum(entities.values()):,}: " in said and "skipped   nothing" in said
    for entry in manifest["inputs"]:
        data = (corpus / entry["name"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    if part_bytes > 1:
        assert [name for name in map(str, shards) if "/00000-" in name] == list(map(str, shards))
        assert [(shard["first_input"], shard["first_line"]) for shard in manifest["shards"][:4]] == [
            ("a.txt", 1), ("a.txt", 6), ("a.txt", 11), ("b.jsonl.gz", 5)
        ]  # fmt: skip
        assert max(shard["counts"]["texts"] for shard in manifest["shards"]) == 10  # documents of two sentences
    assert str(tmp_path) not in json.dumps(manifest)
    assert {path.name for path in (tmp_path / "found").iterdir()} == {*(path.name for path in shards), "manifest.json"}


def test_the_same_command_finds_it_finished_and_another_one_is_refused(predict, model, tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    command = [tmp_path / "a.txt", "--out", tmp_path / "found", "--records-per-file", "5"]
    predict(*command)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "found").iterdir()}
    assert "already predicted" in predict(*command)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "found").iterdir()} == before
    for other, complaint in (
        ([*command, "--batch-size", "7", "--precision", "bf16"], "setting precision, setting batch_size"),
        ([*command, "--records-per-file", "6"], "setting records_per_file"),
        ([command[0], *command], r"input a\.txt \(number 2\)"),
    ):
        with pytest.raises(
            UserError, match=rf"holds predictions of other inputs or settings \(different: {complaint}\): name"
        ):
            predict(*other)
    card, weights = model / "README.md", (model / "extractor.json").read_text()
    card.write_text("A card may change.")
    assert "already predicted" in predict(*command)
    (model / "extractor.json").write_text(weights + " ")
    with pytest.raises(UserError, match=r"\(different: model\)"):
        predict(*command)
    (model / "extractor.json").write_text(weights)
    (tmp_path / "a.txt").write_text("\n".join(TEXTS).replace("Ann", "Eve"))  # of equal size
    with pytest.raises(UserError, match=r"\(different: input a\.txt \(number 1\)\)"):
        predict(*command)
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    (tmp_path / "found" / "00000-000001.jsonl").write_text("")
    with pytest.raises(UserError, match=r"00000-000001\.jsonl is missing or was changed: remove .* and predict again"):
        predict(*command)


def test_bad_lines_are_named_and_passed_over_up_to_the_limit(predict, tmp_path):
    lines = [json.dumps({"text": text}) for text in TEXTS]
    lines[7] = '{"text": 3}'
    lines[10] = "{"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    command = [tmp_path / "a.jsonl", "--out", tmp_path / "found", "--records-per-file", "5"]
    with pytest.raises(UserError, match=r"a\.jsonl, line 8: field 'text' is int.*: fix or remove it \(--max-bad-lines"):
        predict(*command)
    assert [path.name for path in (tmp_path / "found").iterdir() if path.suffix] == ["00000-000000.jsonl"]
    with pytest.raises(UserError, match=r"of other inputs or settings \(different: setting batch_size\)"):
        predict(*command, "--batch-size", "7")
    (tmp_path / "found" / "00000-000000.jsonl").write_text("damaged")  # so it is predicted again
    with pytest.raises(UserError, match=r"more than 1 bad line .*line 8: field 'text'.*; a\.jsonl, line 11: invalid"):
        predict(*command, "--max-bad-lines", "1")
    said = predict(*command, "--max-bad-lines", "2")
    assert "finished before: 3 of 3 files" in said  # the third has few enough
    assert "skipped   2 bad lines, such as a.jsonl, line 8: field 'text' is int, not a string; a.jsonl, line 11" in said
    manifest = json.loads((tmp_path / "found" / "manifest.json").read_text())
    assert [(shard["counts"]["texts"], shard["bad_lines"]) for shard in manifest["shards"]] == [(5, 0), (4, 1), (1, 1)]
    said = predict(tmp_path / "a.jsonl", "--out", tmp_path / "found.jsonl", "--max-bad-lines", "2")
    assert "2 bad lines" in said and len(lines_of(tmp_path / "found.jsonl")) == 10
    assert len(lines_of(*(tmp_path / "found").glob("*.jsonl"))) == 10


def test_standard_input_is_a_corpus_too(predict, tmp_path, monkeypatch):
    command = ["-", "--out", tmp_path / "found", "--records-per-file", "5"]
    for expected in ("3 files", "already predicted"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(TEXTS).encode())))
        assert expected in predict(*command)
    assert [found["text"] for found in lines_of(*sorted((tmp_path / "found").glob("*.jsonl")))] == TEXTS
    assert not list((tmp_path / "found").glob(".*"))


def test_mistakes_about_folders_are_one_line(predict, tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "_WAIT_SECONDS", 0.0)
    (tmp_path / "a.txt").write_text("a\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "00000-000000.jsonl").write_text("mine")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "manifest.json").write_text("{}")
    found = ["--out", tmp_path / "found"]
    with pytest.raises(UserError, match=r"is a folder, which is for files: name a file, such as .*found\.jsonl"):
        predict("--text", "a", *found)
    for arguments, complaint in (
        (["--out", tmp_path / "mine"], "contains other files than predictions: name a new or empty folder"),
        (["--out", tmp_path / "shards"], r"manifest\.json is not a manifest of predictions"),
        (["--out", tmp_path / "f.jsonl", "--ray"], "--ray needs --out FOLDER: a name without an ending"),
        (["--records-per-file", "3"], "--records-per-file needs --out FOLDER"),
        ([*found, "--records-per-file", "0"], "--records-per-file must be at least 1, not 0"),
        ([*found, "--max-bad-lines", "-1"], "--max-bad-lines must not be negative"),
        ([*found, "--workers", "2"], "--workers is for --ray"),
        ([*found, "--ray", "--workers", "0"], "--workers must be at least 1"),
        ([*found, "--ray", "--device", "cuda:1"], "--device cuda:1: with --ray, each worker chooses its GPU"),
        ([tmp_path, *found], "found is inside an input folder"),
    ):
        with pytest.raises(UserError, match=complaint):
            predict(tmp_path / "a.txt", *arguments)
    assert (tmp_path / "mine" / "00000-000000.jsonl").read_text() == "mine"
    lock = RunLock(tmp_path / "found" / ".units", World())
    (tmp_path / "found" / ".00000-000000.jsonl.7.tmp").touch()  # whose it is, nobody may remove
    with pytest.raises(UserError, match=r"another run is using .*give this one another --out, or stop the other"):
        predict(tmp_path / "a.txt", *found)
    assert list((tmp_path / "found").glob(".*.tmp"))
    lock.release()
    assert "1 file of JSON lines" in predict(tmp_path / "a.txt", *found)


def test_workers_of_ray_make_the_same_shards(predict, model, corpus, tmp_path):
    """What tasks and actors do, without Ray."""
    predict(corpus, "--out", tmp_path / "here", "--records-per-file", "5")
    settings = {"device": "cpu", "precision": "fp32", "batch_size": 256}
    out = tmp_path / "there"
    (out / plan.MARKER_FOLDER).mkdir(parents=True)
    there = Plan(out, resolve_sources([str(corpus)], None, out, default="text"), "text", 5, 0, model, settings)
    units = list(read_part(there, 0))
    assert [Unit.of_row(unit.as_row()) for unit in units] == units
    assert sum(unit.size for unit in units) == sum(source.size for source in there.sources)
    worker = on_ray._Predictor(there)
    rows = [{name: [value] for name, value in row.items()} for row in on_ray._read(there, {"part": 0})]
    results = [worker(row) for row in [*reversed(rows), rows[3]]]
    assert [result["reused"] for result in results] == [[False]] * len(rows) + [[True]]
    assert not any(result["error"][0] for result in results)
    shards = sorted((tmp_path / "here").glob("*.jsonl"))
    assert {path.name: path.read_bytes() for path in out.glob("*.jsonl")} == {
        path.name: path.read_bytes() for path in shards
    }
    (corpus / "b.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00" + b"\x00" * 20)
    *_, last = on_ray._read(there, {"part": 0})
    assert "b.jsonl.gz: damaged or truncated" in worker({name: [value] for name, value in last.items()})["error"][0]


@pytest.mark.parametrize(
    ("count", "device", "resources", "expected"),
    [
        (None, None, {"CPU": 17.0}, Workers(16, 1.0, 0.0)),
        (None, None, {"CPU": 1.0}, Workers(1, 0.75, 0.0)),
        (4, None, {"CPU": 3.0}, Workers(4, 0.6875, 0.0)),
        (None, None, {"CPU": 32.0, "GPU": 8.0}, Workers(8, 1.0, 1.0)),
        (6, "cuda", {"CPU": 32.0, "GPU": 4.0}, Workers(6, 1.0, 0.5)),  # two share a GPU
        (None, "cpu", {"CPU": 3.0, "GPU": 4.0}, Workers(2, 1.0, 0.0)),
    ],
)
def test_workers_are_as_many_as_there_is_room_for(count, device, resources, expected):
    assert Workers.of(count, resources, device=device) == expected


def test_progress_says_how_much_is_done_and_left(monkeypatch):
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    shown = Progress()
    assert shown.line() == "loading the model"
    shown.size = 1000
    shown.begin("predicting")  # at 10 s
    shown.add_finished(500, 500)
    assert shown.line() == "500 texts, 50% of the input"
    shown.add(1200, 100)
    assert shown.line() == "1,700 texts, 60 a second, 60% of the input, 80 s left"  # at 30 s
    list(islice(now, 7))
    shown.add(1200, 399)
    assert shown.line() == "2,900 texts, 24 a second, 100% of the input, 0 s left"
    shown = Progress()
    shown.begin("predicting")
    shown.size, shown.read = 1000, 1000  # read ahead, of one long text
    shown.add_sentences(300)
    assert re.fullmatch(r"0 texts, 300 sentences, [\d.]+ a second", shown.line())
    shown.read = 30
    shown.add(1)
    assert re.fullmatch(r"1 text, 300 sentences, [\d.]+ a second, 3% of the input, \d+ min left", shown.line())
    list(islice(now, 20))
    assert re.fullmatch(r"1 text, 300 sentences, 1.3 a second, 3% of the input", shown.line())
    assert [duration_text(seconds) for seconds in (99, 100, 5999, 6000)] == ["99 s", "2 min", "100 min", "1.7 h"]
