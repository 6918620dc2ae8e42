"""`spe predict` as a person types it."""

import csv
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import networkx
import pytest

from data_shards.annotated.read import read_annotated, read_documents
from data_shards.errors import UserError
from data_shards.input.format import ANNOTATED_FIELDS
from launcher.cli import dispatch
from tests.integration.command import clean_environment
from tests.unit.spe_dist.extraction.lively import save_lively
from tests.unit.spe_dist.tiny_run import ROOT

TEXTS = ["Marie Curie was born in Warsaw. She lived in Paris.", "", "Ann works for Acme Inc.", 'a "b" \\ é 😀 c']
PREDICT = [sys.executable, "-c", "from launcher.cli import main; main()", "predict"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lively(tmp_path_factory.mktemp("lively") / "model")


@pytest.fixture
def predict(model, capsysbinary):
    """What the command writes, as lines of JSON."""

    def run(*arguments) -> list[dict]:
        dispatch(["predict", str(model), *map(str, arguments)])
        return [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]

    return run


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_text_gives_a_line(predict):
    (found,) = predict("--text", TEXTS[0])
    assert list(found) == ["text", "entities", "relations"]
    assert found["text"] == TEXTS[0] and found["entities"] and found["relations"]
    for entity in found["entities"]:
        assert list(entity) == ["type", "start", "end", "text", "score"]
        assert TEXTS[0][entity["start"] : entity["end"]] == entity["text"]
    for relation in found["relations"]:
        assert list(relation) == ["type", "head", "tail", "score"]
        assert max(relation["head"], relation["tail"]) < len(found["entities"])


def test_the_same_texts_in_every_form_of_input(predict, tmp_path, monkeypatch):
    lines = "".join(f"{text}\n" for text in TEXTS).encode()
    objects = "".join(json.dumps({"id": n, "body": t}) + "\n\n" for n, t in enumerate(TEXTS)).encode()
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + lines.replace(b"\n", b"\r\n"))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(objects))
    (tmp_path / "unheard.of").write_bytes(objects)
    expected = predict(tmp_path / "a.txt")
    assert [found["text"] for found in expected] == TEXTS
    assert predict(tmp_path / "b.txt.gz", tmp_path / "a.txt") == expected * 2
    for name in ("c.jsonl.gz", "unheard.of"):
        found = predict(tmp_path / name, "--text-field", "body", "--batch-size", "1")
        assert [list(line) for line in found] == [["id", "body", "entities", "relations"]] * 4
        assert [line["entities"] for line in found] == [line["entities"] for line in expected]
    for arguments in ([], ["-"], ["--input-format", "text"]):
        give(monkeypatch, lines)
        assert predict(*arguments) == expected
    give(monkeypatch, objects)
    assert [line["relations"] for line in predict("--text-field", "body")] == [line["relations"] for line in expected]


def test_standard_input_may_begin_with_a_mark_or_empty_lines(predict, monkeypatch):
    objects = "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(TEXTS)).encode()
    give(monkeypatch, objects)
    expected = predict()
    assert [found["text"] for found in expected] == TEXTS
    for before in (b"\xef\xbb\xbf", b"\n \n", b"\xef\xbb\xbf\n"):
        give(monkeypatch, before + objects)
        assert predict() == expected
    give(monkeypatch, b"\xef\xbb\xbf\n" + TEXTS[0].encode())
    assert [found["text"] for found in predict()] == ["", TEXTS[0]]  # a text is a line, be it empty


def test_the_file_that_was_learned_from_is_read(predict, tmp_path):
    words = TEXTS[0].split()
    sentence = {"tokens": words, "entities": [[0, 2, "LOC"]], "relations": []}
    (tmp_path / "list.json").write_text(json.dumps([sentence, sentence | {"orig_id": 7}]))
    found = predict(tmp_path / "list.json")
    assert [line["tokens"] for line in found] == [words, words] and found[1]["orig_id"] == 7
    (tmp_path / "indented.json").write_text(json.dumps(sentence, indent=1))
    assert predict(tmp_path / "indented.json") == found[:1]
    document = {"doc_key": "d", "sentences": [words, []], "ner": [[[0, 1, "LOC"]], []]}
    (tmp_path / "dygie.json").write_text(json.dumps(document))
    assert predict(tmp_path / "dygie.json", "--out", tmp_path / "found.jsonl") == []
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [(line["document"], line["number"], line["tokens"]) for line in lines] == [("d", 0, words), ("d", 1, [])]
    assert lines[0]["entities"] == found[0]["entities"]
    sentences, _ = read_annotated(tmp_path / "found.jsonl")  # predictions are annotated data again
    assert [(one.document, one.number) for one in sentences] == [("d", 0)]


def test_words_give_annotated_data(predict, tmp_path):
    (tmp_path / "words.jsonl").write_text(
        "".join(
            json.dumps({"tokens": text.split(), "entities": [], "relations": [], "document": "d"}) + "\n"
            for text in TEXTS if text
        )
    )  # fmt: skip
    dispatch_out = tmp_path / "found.jsonl"
    assert predict(tmp_path / "words.jsonl", "--out", dispatch_out) == []
    sentences, _ = read_annotated(dispatch_out)
    found = [json.loads(line) for line in dispatch_out.read_text().splitlines()]
    assert [list(sentence.words) for sentence in sentences] == [line["tokens"] for line in found]
    assert [len(sentence.entities) for sentence in sentences] == [len(line["entities"]) for line in found]
    for line in found:
        joined = " ".join(line["tokens"])
        for entity in line["entities"]:
            assert joined[entity["char_start"] : entity["char_end"]] == entity["text"]
            assert " ".join(line["tokens"][entity["start"] : entity["end"]]) == entity["text"]


def test_predictions_of_texts_are_annotated_data_whatever_else_the_input_had(predict, tmp_path):
    old = {name: [] for _, names in ANNOTATED_FIELDS for name in names - {"data", "label", "text"}}
    given = {"id": "a", "source": "b", "label": "news"} | old | {"entity_list": [], "text": TEXTS[0]}
    (tmp_path / "in.jsonl").write_text(json.dumps(given) + "\n")
    predict(tmp_path / "in.jsonl", "--out", tmp_path / "found.jsonl")
    (document,), report = read_documents(tmp_path / "found.jsonl")
    found = json.loads((tmp_path / "found.jsonl").read_text())
    assert report.format == "characters" and "entity_list" not in found
    assert [found[name] for name in ("id", "source", "label")] == ["a", "b", "news"]
    assert document.characters() == [(one["start"], one["end"]) for one in found["entities"]] != []
    (tmp_path / "named.jsonl").write_text(json.dumps({"triples": TEXTS[0]}) + "\n")
    (line,) = predict(tmp_path / "named.jsonl", "--text-field", "triples")
    assert line["triples"] == TEXTS[0]


def test_half_of_a_surrogate_pair_is_given_back_as_it_came(predict, tmp_path):
    (tmp_path / "odd.jsonl").write_bytes(rb'{"text": "\ud800 Marie \u0000 Curie"}' + b"\n")
    (found,) = predict(tmp_path / "odd.jsonl")
    assert found["text"] == "\ud800 Marie \x00 Curie"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"text": "a"}\n{"text": 3}\n', "line 2: field 'text' is int, not a string"),
        (b'{"text": "a"}\n\n{"text": "b"\n', "line 3: invalid JSON"),
        (b"[1]\n", "line 1: not a JSON object but list"),
        (b'{"tokens": ["a", 1]}\n', "line 1: field 'tokens' is not a list of strings"),
        (b'{"title": "a"}\n', r"line 1: no field 'text' and none with words .*, only title: name .* --text-field"),
        (b'{"text": "\xff"}\n', "line 1: invalid UTF-8 at byte 11"),
        (b'{"a":' * 100_000 + b"\n", "line 1: invalid JSON: nested too deeply"),
    ],
)
def test_a_malformed_line_is_named_and_nothing_is_left(predict, tmp_path, content, complaint):
    (tmp_path / "bad.jsonl").write_bytes(content)
    (tmp_path / "found.jsonl").write_text("before")
    with pytest.raises(UserError, match=f"bad.jsonl, {complaint}"):
        predict(tmp_path / "bad.jsonl", "--out", tmp_path / "found.jsonl")
    assert (tmp_path / "found.jsonl").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "found.jsonl"]


def test_mistakes_are_told_before_anything_is_computed(predict, tmp_path):
    (tmp_path / "a.txt").write_text("a\n")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"a\n" * 1000)[:-20])
    for arguments, complaint in (
        (["nowhere.txt"], "nowhere.txt: no such file"),
        ([tmp_path / "nothing"], "is a folder without files"),
        ([tmp_path, "--out", tmp_path / "found.jsonl"], "is inside an input folder"),
        ([tmp_path / "cut.txt.gz"], "damaged or truncated"),
        (["--text", "a", tmp_path / "a.txt"], "either --text or files"),
        ([tmp_path / "a.txt", "--out", tmp_path / "a.txt"], "is an input file"),
        ([tmp_path / "a.txt", "--out", tmp_path, "--format", "html"], "is a folder"),
        ([tmp_path / "a.txt", "--out", tmp_path / "no" / "b.txt"], "in a folder that does not exist"),
        (["--text", "a", "--out", tmp_path / "x.csv"], r"use one of \.jsonl, .*\.nt, or give --format"),
        (["--text", "a", "--device", "gpu"], "device 'gpu'"),
        (["--text", "a", "--out", ".", "--format", "brat"], r"\. is not the name of a new folder"),
    ):
        with pytest.raises(UserError, match=complaint):
            predict(*arguments)
    with pytest.raises(UserError, match="not an extractor"):
        dispatch(["predict", str(tmp_path), "--text", "a"])


def test_a_folder_above_the_models_is_told_before_torch_is_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(
        sys.modules, "spe_dist.extraction.predict.extractor", None
    )  # importing it would be an ImportError
    model = tmp_path / "run" / "seed-2" / "model"
    model.mkdir(parents=True)
    (model / "extractor.json").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"notes\.txt is a file, not the folder of a model: name the model first"):
        dispatch(["predict", str(tmp_path / "notes.txt"), str(model)])
    for folder in (tmp_path / "run", tmp_path / "run" / "seed-2"):
        with pytest.raises(UserError, match=f"{folder} is not an extractor, did you mean {model}\\?"):
            dispatch(["predict", str(folder), "--text", "a"])


def test_with_a_format_the_output_may_have_any_name(predict, tmp_path):
    for name in ("found.data", "found"):
        predict("--text", TEXTS[0], "--format", "jsonl", "--out", tmp_path / name)
        assert [json.loads((tmp_path / name).read_text())] == predict("--text", TEXTS[0])


def test_text_for_a_terminal(model, tmp_path, capsys, monkeypatch):
    arguments = ["predict", str(model), "--text", TEXTS[0] + " \x1b[31mred", "--format", "terminal"]
    dispatch(arguments)
    plain = capsys.readouterr().out
    assert "\x1b" not in plain and "␛[31m" in plain.replace(" ", "").replace("[LOC", "")
    assert "─▶" in plain and "Warsaw" in plain
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    dispatch(arguments[:-2])
    coloured = capsys.readouterr().out
    assert "\x1b[30;48;5;" in coloured and "\x1b[31m" not in coloured
    dispatch([*arguments[:-2], "--out", str(tmp_path / "found.txt")])
    assert (tmp_path / "found.txt").read_text() == plain
    monkeypatch.setenv("NO_COLOR", "1")
    dispatch(arguments[:-2])
    assert capsys.readouterr().out == plain


def test_a_page(predict, model, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"title": "<b>One</b>", "text": TEXTS[0] + " <script>x</script>"}))
    predict(tmp_path / "a.jsonl", "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert f'<p class="about">{tmp_path / "a.jsonl"}, read by {model}</p>' in page
    assert page.startswith("<!DOCTYPE html>") and page.rstrip().endswith("</html>")
    assert "1. &lt;b&gt;One&lt;/b&gt;" in page and "&lt;script&gt;" in page and page.count("<script>") == 1
    assert page.count("<mark") > 2 and page.count("<li ") > 0
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")  # all is in it


def test_the_python_of_the_docs_works(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text(TEXTS[0] + "\n" + TEXTS[2] + "\n")
    for page in (ROOT / "docs/predicting.md", ROOT / "README.md"):
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
        blocks = [block for block in blocks if "Extractor" in block or "html_page" in block]
        assert blocks
        exec("\n".join(blocks).replace("runs/people/seed-1/model", str(model)), {})
    assert f"\n{TEXTS[2]} (" in capsys.readouterr().out  # no newline in the text
    assert "1. a title" in (tmp_path / "page.html").read_text()


def test_who_reads_may_go_away(model):
    reader = f"{' '.join(map(repr, PREDICT))} {model} - | head -c 10"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", reader], input="Ann lives in Paris.\n" * 5000, env=clean_environment(),
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout == '{"text": "'
    assert (done.returncode, done.stderr) == (141, "")


def heed_interrupts():
    """What a shell starts in the background ignores Ctrl-C, tests and all that they start included."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_it_may_be_interrupted(model):
    process = subprocess.Popen(
        [*PREDICT, str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=clean_environment(), preexec_fn=heed_interrupts,
    )  # fmt: skip
    process.stdin.write(b"Ann lives in Paris.\n" * 4000)
    process.stdin.flush()
    assert os.read(process.stdout.fileno(), 10)  # it computes, and waits for more
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 130
    assert stderr.decode().startswith("error: interrupted after ") and stderr.count(b"\n") == 1


def test_what_other_programs_read(predict, tmp_path):
    """Annotation tools read the predictions as annotation; graphs have what JSON lines have."""
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"id": f"d{n}", "text": t}) + "\n" for n, t in enumerate(TEXTS))
    )
    expected = predict(tmp_path / "in.jsonl")
    assert predict(tmp_path / "in.jsonl", "--out", tmp_path / "tasks.json", "--format", "label_studio") == []
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["data"] for task in tasks] == [{"id": f"d{n}", "text": text} for n, text in enumerate(TEXTS)]
    scores = [one["score"] for one in expected[0]["entities"] + expected[0]["relations"]]
    (prediction,) = tasks[0]["predictions"]
    assert prediction["score"] == min(scores) and [one["score"] for one in prediction["result"]] == scores
    assert predict(tmp_path / "tasks.json") == [  # tasks are input, too
        {"data": task["data"], "predictions": task["predictions"]}
        | {name: line[name] for name in ("entities", "relations")}
        for task, line in zip(tasks, expected, strict=True)
    ]
    for task in tasks:
        task["annotations"] = task.pop("predictions")
    (tmp_path / "annotated.json").write_text(json.dumps(tasks))
    predict(tmp_path / "in.jsonl", "--out", tmp_path / "brat", "--format", "brat")
    (tmp_path / "expected.jsonl").write_text("".join(json.dumps(line) + "\n" for line in expected))
    (from_json, _), (from_tool, _), (from_brat, _) = (
        read_documents(tmp_path / name) for name in ("expected.jsonl", "annotated.json", "brat")
    )
    assert from_tool == from_json and [one.mentions for one in from_brat] == [one.mentions for one in from_json]
    assert [one.name for one in from_brat] == ["d0", "d1", "d2", "d3"]
    entities = sum(len(line["entities"]) for line in expected)
    for nodes in ("corpus", "text"):
        arguments = ("--format", "neo4j", "--graph-nodes", nodes)
        predict(tmp_path / "in.jsonl", "--out", tmp_path / nodes, *arguments)
        rows = list(csv.DictReader((tmp_path / nodes / "nodes.csv").open(newline="")))
        assert sum(int(row["count:int"]) for row in rows) == entities
    predict(tmp_path / "in.jsonl", "--out", tmp_path / "found.graphml")
    assert len(networkx.read_graphml(tmp_path / "found.graphml")) == len({(one["type"], one["text"].casefold())
        for line in expected for one in line["entities"]})  # fmt: skip
    predict(tmp_path / "in.jsonl", "--out", tmp_path / "found.nt")
    assert (tmp_path / "found.nt").read_text().count("22-rdf-syntax-ns#Statement>") > 0
    with pytest.raises(UserError, match="--format brat needs a new or empty folder"):
        predict(tmp_path / "in.jsonl", "--out", tmp_path / "brat", "--format", "brat")
    with pytest.raises(UserError, match="--format neo4j is a folder: name it with --out"):
        predict(tmp_path / "in.jsonl", "--format", "neo4j")
    with pytest.raises(UserError, match="is a folder of brat: spe data convert"):
        predict(tmp_path / "brat")


def test_tasks_of_label_studio_keep_what_is_no_annotation(predict, tmp_path):
    own = {"label": "news", "tokens": 7, "spans": {"a": 1}}
    data = {"text": TEXTS[0], "label": ["a"], "annotations": [1]}
    given = [own | {"text": TEXTS[0], "relations": []}, {"data": data, "annotations": []}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(one) + "\n" for one in given))
    predict(tmp_path / "in.jsonl", "--out", tmp_path / "tasks.json", "--format", "label_studio")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["data"] for task in tasks] == [own | {"text": TEXTS[0]}, data]


def test_suggest_picks_texts_with_what_is_found_in_them(model, predict, tmp_path, capsysbinary):
    (tmp_path / "pool.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    found = {line["text"]: line for line in predict(tmp_path / "pool.txt")}
    dispatch(["suggest", str(model), str(tmp_path / "pool.txt"), "--count", "2", "--out", str(tmp_path / "a.jsonl")])
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and all(found[line["text"]] == line for line in lines)
    assert b"2 texts: 1 chosen, uncertainty " in capsysbinary.readouterr().err
    dispatch(["suggest", str(model), str(tmp_path / "pool.txt"), "--count", "2", "--out", str(tmp_path / "a.json"),
              "--format", "label_studio"])  # fmt: skip
    assert [task["data"]["text"] for task in json.loads((tmp_path / "a.json").read_text())] == [
        one["text"] for one in lines
    ]


def test_suggest_writes_no_input(model, tmp_path):
    (tmp_path / "pool").mkdir()
    pool = tmp_path / "pool" / "a.txt"
    pool.write_text(TEXTS[0])
    for source, out, more, complaint in (
        (pool, pool, [], "is an input file"),
        (pool.parent, pool, [], "is inside an input folder"),
        (pool.parent, pool.with_name("brat"), ["--format", "brat"], "is inside an input folder"),
    ):
        with pytest.raises(UserError, match=complaint):
            dispatch(["suggest", str(model), str(source), "--out", str(out), *more])
    assert [(path.name, path.read_text()) for path in pool.parent.iterdir()] == [("a.txt", TEXTS[0])]
