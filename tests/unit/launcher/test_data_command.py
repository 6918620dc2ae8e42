import json
import re
from pathlib import Path

import pytest

from data_shards.annotated.read import read_annotated
from data_shards.annotated.split import split_file
from data_shards.errors import UserError
from data_shards.shards.reader import ShardReader
from launcher.cli import dispatch
from tests.paper.erica.oracle import documents_of
from tests.unit.spe_dist.fact_sentences import write_fact_sentences
from tests.unit.spe_dist.random_documents import write_documents
from tests.unit.spe_dist.tiny_run import ROOT


def written(path: Path, *sentences: dict) -> Path:
    path.write_text("".join(json.dumps(sentence) + "\n" for sentence in sentences))
    return path


def row(printed: str, name: str, table: str) -> list[str]:
    """The cells of a row in the table of that title."""
    lines = printed.split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith(table + " "))
    found = next(line for line in lines[start + 1 :] if line.startswith(name + "  "))
    return found.removeprefix(name).split()


ADA = {"tokens": ["Ada", "lives", "in", "London"], "entities": [[0, 1, "Person"], [3, 4, "Place"]]}
LONG = {"tokens": ["antidisestablishmentarianism"] * 3, "entities": [[0, 2, "Word"], [1, 2, "all"]]}


def test_check_prints_what_files_hold(tmp_path, capsys):
    train = written(
        tmp_path / "train.jsonl", ADA | {"relations": [[0, 1, 3, 4, "lives in"], [0, 1, 2, 3, "in"]], "source": 1}, LONG
    )
    test = written(tmp_path / "test.jsonl", ADA)
    vocabulary = str(ROOT / "data_shards" / "debug_vocab.txt")
    dispatch(["data", "check", str(train), str(test), "--tokenizer", vocabulary, "--max-pieces", "9"])
    printed = capsys.readouterr().out
    assert "train.jsonl: 2 sentences in 2 items, format unified" in printed
    assert "1 relations left out because an argument is no entity" in printed
    assert "fields that are not read: source (1, first in line 1)" in printed
    assert row(printed, "sentences", "sentences") == ["2", "1"]
    assert row(printed, "  a sentence, most", "sentences") == ["4", "4"]
    assert row(printed, "  'Person'", "entities") == ["1", "1"]
    assert row(printed, "  'all'", "entities") == ["1", "0"]  # a type may be called as a row is
    assert row(printed, "all", "entities") == ["4", "2"]
    assert row(printed, "  one inside the other", "entities") == ["1", "0"]
    assert row(printed, "words between related, median", "pairs") == ["2", "-"]
    assert row(printed, "  'lives in'", "relations (left to right)") == ["1", "(100%)", "0"]
    assert row(printed, "sentences of more than 9", "pieces, special ones included") == ["1", "0"]
    assert printed.count("annotated differently") == 1
    assert (
        "1 sentence of test.jsonl is in train.jsonl too, 1 annotated differently: remove from one of the two "
        f"({test}:1 = {train}:1)\n" in printed
    )
    assert "entity type 'Word' is in train.jsonl but not in test.jsonl" in printed
    assert "relation type 'lives in' is in train.jsonl but not in test.jsonl" in printed
    dispatch(["data", "check", str(train), str(test), "--json"])
    files = json.loads(capsys.readouterr().out)["files"]
    assert [(of["sentences"], of["nested"], of["entity_types"]["Person"]) for of in files.values()] == [
        (2, 1, 1),
        (1, 0, 1),
    ]
    assert files["train.jsonl"]["relation_types"]["lives in"]["left_to_right"] == 1
    assert files["train.jsonl"]["triples"] == [{"head": "Person", "relation": "lives in", "tail": "Place", "count": 1}]


def test_three_of_the_sentences_that_two_files_share_are_named(tmp_path, capsys):
    files = [written(tmp_path / name, *[{"tokens": [letter], "entities": []} for letter in letters])
             for name, letters in (("a.jsonl", "abcde"), ("b.jsonl", "xedcb"))]  # fmt: skip
    dispatch(["data", "check", *map(str, files)])
    named = ", ".join(f"{files[1]}:{number} = {files[0]}:{7 - number}" for number in (2, 3, 4))
    assert (
        "4 sentences of b.jsonl are in a.jsonl too, 0 annotated differently: remove from one of the two "
        f"({named}, …)" in capsys.readouterr().out
    )


def test_files_of_one_name_are_told_apart_and_twins_refused(tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder / "x.json", {"tokens": [folder], "entities": []})
    dispatch(["data", "check", str(tmp_path / "a/x.json"), str(tmp_path / "b/x.json")])
    printed = capsys.readouterr().out
    assert f"{tmp_path}/a/x.json  {tmp_path}/b/x.json" in printed
    assert "no sentence is in two of the files" in printed
    with pytest.raises(UserError, match="named twice"):
        dispatch(["data", "check", str(tmp_path / "a/x.json"), str(tmp_path / "a/../a/x.json")])


def test_convert_keeps_every_sentence(tmp_path, capsys):
    document = {"doc_key": "d", "sentences": [["a"], ["b", "c"]], "ner": [[], [[1, 1, "X"], [1, 2, "Y"]]]}
    source = written(tmp_path / "in.json", document)
    dispatch(["data", "convert", str(source), str(tmp_path / "out.jsonl.gz"), "--format", "dygie"])
    assert "2 sentences, format unified" in capsys.readouterr().out
    assert read_annotated(tmp_path / "out.jsonl.gz")[0] == read_annotated(source)[0]


def test_check_warns_and_convert_does_what_it_says(tmp_path, capsys):
    item = {"text": "🎉🎉 Ada met Bo again.", "entities": [[5, 8, "PER"], [13, 15, "PER "]],
            "relations": [{"type": "NA", "head": 0, "tail": 1}, {"type": "met", "head": 1, "tail": 0}]}  # fmt: skip
    source, out = written(tmp_path / "in.jsonl", item), tmp_path / "out.jsonl"
    dispatch(["data", "check", str(source)])
    printed = capsys.readouterr().out
    assert "warning:" in printed and "add --offsets utf16" in printed and "--without-relations 'NA'" in printed
    assert row(printed, "  'PER '", "entities") == ["1"]
    assert "warning: entity types 'PER', 'PER ' differ" in printed
    dispatch(["data", "check", str(source), "--offsets", "utf16"])
    assert "--offsets" not in capsys.readouterr().out
    dispatch(["data", "convert", str(source), str(out), "--offsets", "utf16", "--without-relations", "NA"])
    (sentence,), _ = read_annotated(out)
    assert [(one.word_start, one.word_end) for one in sentence.entities] == [(2, 3), (4, 5)]
    assert [(one.head, one.tail, one.type) for one in sentence.relations] == [(1, 0, "met")]
    with pytest.raises(UserError, match=r"no relations of type 'Na' to leave out; its types are: 'NA', 'met'"):
        dispatch(["data", "convert", str(source), str(out), "--without-relations", "Na"])


def test_mistakes_are_user_errors(tmp_path):
    source = written(tmp_path / "in.json", ADA)
    with pytest.raises(UserError, match="is the input file"):
        dispatch(["data", "convert", str(source), str(source)])
    with pytest.raises(UserError, match="no field 'sentences'"):
        dispatch(["data", "convert", str(source), str(tmp_path / "x"), "--format", "dygie"])
    assert not (tmp_path / "x").exists()
    with pytest.raises(UserError, match="no input"):
        dispatch(["data", "check"])


def related(number: int, head: str, tail: str) -> dict:
    """A sentence of its own with one relation between entities of these types."""
    entities = [{"type": head, "start": 0, "end": 1}, {"type": tail, "start": 2, "end": 3}]
    relations = [{"type": "knows", "head": 0, "tail": 1}]
    return {"tokens": ["a", "knows", "b", str(number)], "entities": entities, "relations": relations}


def test_check_shows_which_types_are_related_and_what_was_never_learned(tmp_path, capsys):
    train = written(tmp_path / "train.jsonl", *(related(number, "Dog", "Cat") for number in range(30)))
    dev = written(
        tmp_path / "dev.jsonl", related(31, "Dog", "Cat"), related(32, "Cat", "Dog"), related(33, "Cat", "Dog")
    )
    dispatch(["data", "check", str(train), str(dev)])
    printed = capsys.readouterr().out
    table = "triples (head type, relation, tail type)"
    assert row(printed, "'Dog' 'knows' 'Cat'", table) == ["30", "1"]
    assert row(printed, "'Cat' 'knows' 'Dog'", table) == ["0", "2"]
    assert (
        "2 of 3 relations of dev.jsonl (66.7%) connect types that they never connect in train.jsonl: a "
        "model that learns from it cannot predict them, unless fine-tuned with --model.no-type-constraints\n"
        "  'Cat' 'knows' 'Dog': 2\n" in printed
    )
    assert "warning: 0 of 30 sentences of train.jsonl are without entities" in printed
    assert "warning: 0 of 30 sentences of train.jsonl with two or more entities are without relations" in printed
    assert row(printed, "  with two or more", "sentences") == ["30", "3"]


def test_many_triples_are_shown_when_asked(tmp_path, capsys):
    train = written(tmp_path / "train.jsonl", related(0, "Dog", "Cat"))
    dev = written(tmp_path / "dev.jsonl", *(related(1 + n, f"T{n}", "Cat") for n in range(25)))
    dispatch(["data", "check", str(train), str(dev)])
    printed = capsys.readouterr().out
    assert "26 triples of head type, relation and tail type: --triples shows them" in printed
    assert printed.count("' 'knows' 'Cat': 1\n") == 20 and "  and 5 rarer ones: --triples shows them" in printed
    dispatch(["data", "check", str(train), str(dev), "--triples"])
    printed = capsys.readouterr().out
    assert row(printed, "'T24' 'knows' 'Cat'", "triples (head type, relation, tail type)") == ["0", "1"]
    assert printed.count("' 'knows' 'Cat': 1\n") == 25 and "--triples" not in printed


def test_convert_can_leave_sentences_of_unrelated_entities_alone(tmp_path):
    one = related(1, "Dog", "Cat")
    source = written(
        tmp_path / "in.jsonl", one, related(2, "Dog", "Cat") | {"relations": []}, ADA | {"entities": []}, ADA
    )
    dispatch(["data", "convert", str(source), str(tmp_path / "out.jsonl"), "--only-unrelated"])
    assert [s.words[-1] for s in read_annotated(tmp_path / "out.jsonl")[0]] == ["2", "London"]
    with pytest.raises(UserError, match="no sentence with two or more entities and without relations"):
        dispatch(
            ["data", "convert", str(written(tmp_path / "one.jsonl", one)), str(tmp_path / "x"), "--only-unrelated"]
        )
    assert not (tmp_path / "x").exists()


def test_convert_makes_annotated_data_of_a_dataset_of_sentences(tmp_path, capsys):
    manifest = write_fact_sentences(tmp_path / "shards", 30, shards=2)
    dispatch(["data", "convert", str(tmp_path / "shards"), str(tmp_path / "out.jsonl")])
    assert "30 sentences, format unified" in capsys.readouterr().out
    records = ShardReader(tmp_path / "shards").take(range(30))
    names = [relation.name for relation in manifest.relation_types.values()]
    sentences, _ = read_annotated(tmp_path / "out.jsonl")
    for document, sentence in zip(documents_of(records), sentences, strict=True):
        assert len(sentence.words) == len(document.words)
        spans = [(entity.word_start, entity.word_end) for entity in sentence.entities]
        assert spans == [(start, end) for start, end, _ in document.mentions]
        expected = {
            (head, tail, names[relation])
            for head_entity, tail_entity, relation in document.facts
            for head, (*_, one) in enumerate(document.mentions) if one == head_entity
            for tail, (*_, other) in enumerate(document.mentions) if other == tail_entity
        }  # fmt: skip
        assert {(relation.head, relation.tail, relation.type) for relation in sentence.relations} == expected
    assert any(len(document.relations) > len(document.facts) for document in documents_of(records))  # blocked ones
    write_documents(tmp_path / "documents", 8, shards=1)
    with pytest.raises(UserError, match="holds documents: cut them first"):
        dispatch(["data", "convert", str(tmp_path / "documents"), str(tmp_path / "x")])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("check folder", "folder is a folder: name the files in it (a folder of brat has .ann files)"),
        ("check brat/a.ann", "brat/a.ann is annotations of brat: name their folder, brat"),
        ("split brat --out parts --dev 0.5", "brat is a folder of brat: split what spe data convert brat all.jsonl"),
        ("split a.spacy --out parts --dev 0.5", "a.spacy is a DocBin of spaCy: split what spe data convert"),
        ("convert brat out.csv", "out.csv: .csv is no ending of a format that is written: end the name in .jsonl"),
        ("convert brat out.tsv.gz", "out.tsv.gz: .tsv is no ending of a format that is written"),
        ("convert brat out.ann", "out.ann: .ann is no ending of a format that is written"),
    ],
)
def test_a_wrong_kind_of_file_is_told_with_the_right_one(tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "brat"):
        Path(name).mkdir()
        Path(name, "a.txt").write_text("Ada lives.")
    Path("brat/a.ann").write_text("T1\tPER 0 3\tAda\n")
    Path("a.spacy").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        dispatch(["data", *arguments.split()])
    assert str(caught.value).startswith(told) and sorted(tmp_path.rglob("*")) == before


def test_split_keeps_articles_together(tmp_path, capsys):
    articles = [{"title": str(n), "paragraphs": []} for n in range(10)]
    (tmp_path / "a.json").write_text(json.dumps({"data": articles, "version": "1.1"}))

    def titles(folder: str, *sizes: str) -> list[list[str]]:
        dispatch(["data", "split", str(tmp_path / "a.json"), "--out", str(tmp_path / folder), *sizes])
        files = [tmp_path / folder / f"{name}.json" for name in ("train", "dev", "test")]
        parts = [json.loads(file.read_text()) for file in files if file.exists()]
        assert all(part["version"] == "1.1" for part in parts)
        return [[article["title"] for article in part["data"]] for part in parts]

    parts = titles("one", "--train", "6", "--dev", "0.1", "--test=3")
    assert [len(part) for part in parts] == [6, 1, 3] and parts == [sorted(part) for part in parts]
    assert sorted(title for part in parts for title in part) == list("0123456789")
    assert f"{tmp_path / 'one' / 'dev.json'}: 1\n" in capsys.readouterr().out
    assert titles("two", "--train", "6", "--dev", "0.1", "--test=3") == parts
    assert titles("three", "--train", "6", "--dev", "0.1", "--test=3", "--seed", "1") != parts
    assert [len(part) for part in titles("four", "--dev", "0.5")] == [5]
    (tmp_path / "a.json").write_text('{"header": {}}\n' + "".join(f'{{"context": "{n}"}}\n' for n in range(4)))
    dispatch(["data", "split", str(tmp_path / "a.json"), "--out", str(tmp_path / "m"), "--dev=0.5", "--test=0.5"])
    halves = [(tmp_path / "m" / f"{name}.jsonl").read_text().splitlines() for name in ("dev", "test")]
    assert all(half[0] == '{"header": {}}' and len(half) == 3 for half in halves) and halves[0] != halves[1]


@pytest.mark.parametrize("count", range(10, 31))
def test_shares_of_a_whole_lose_nothing_and_texts_stay_together(tmp_path, count):
    fields = ("document", "context", "id")[count % 3]
    lines = [json.dumps({fields: f"{n % count}", "n": n}) + "\n" for n in range(2 * count)]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    sizes = {"train": 0.8, "dev": 0.1, "test": 0.1}
    split_file(tmp_path / "a.jsonl", tmp_path / "out", sizes, seed=1)
    parts = [(tmp_path / "out" / f"{name}.jsonl").read_text().splitlines(keepends=True) for name in sizes]
    assert sorted(line for part in parts for line in part) == sorted(lines)
    of_text = [{json.loads(line)[fields] for line in part} for part in parts]
    assert (sum(map(len, of_text)) == count) == (fields != "id")
    groups = count if fields != "id" else 2 * count
    of_part = [len(part) * groups / (2 * count) for part in parts]
    assert all(abs(found - share * groups) <= 1 for found, share in zip(of_part, sizes.values(), strict=True))


@pytest.mark.parametrize("name", ["document", "context"])
def test_items_of_a_numbered_text_stay_together(tmp_path, name):
    file = written(tmp_path / "a.jsonl", *({name: n % 5 if n < 20 else str(n % 5), "n": n} for n in range(40)))
    written_parts = split_file(file, tmp_path / "out", {"train": 0.6, "dev": 0.2, "test": 0.2}, seed=0)
    assert list(written_parts.values()) == [3, 1, 1]
    of_part = [{str(json.loads(line)[name]) for line in part.read_text().splitlines()} for part in written_parts]
    assert sum(map(len, of_part)) == len(set.union(*of_part)) == 5


@pytest.mark.parametrize("text", [1.5, True, ["a"], {"id": 1}])
def test_items_that_cannot_be_kept_together_are_refused(tmp_path, text):
    file = written(tmp_path / "a.jsonl", {"document": None, "n": 0}, {"document": text, "n": 1})
    told = f"{file}:2: document is {json.dumps(text)}: expected a text or a whole number"
    with pytest.raises(UserError, match=re.escape(told)):
        split_file(file, tmp_path / "out", {"train": 1}, seed=0)
    assert not (tmp_path / "out").exists()


def test_half_of_a_surrogate_pair_is_not_split(tmp_path):
    file = written(tmp_path / "a.jsonl", ADA, {"id": "\ud83d"})
    with pytest.raises(UserError, match=re.escape(f"{file}:2: id has half of a surrogate pair")):
        split_file(file, tmp_path / "out", {"train": 1}, seed=0)


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        (["--train", "2", "--test=1"], "a.jsonl has 2 items, fewer than the 3 of all parts"),
        (["--train", "1.5"], "--train 1.5: give a number of articles or items, or a share"),
        (["--train", "nan"], "--train nan: give a number"),
        (["--dev", "0.01"], "--dev 0.01: .*a.jsonl has 2 items, and this share of them is less than one"),
        ([], "name the size of a part"),
    ],
)
def test_a_split_that_cannot_be_is_refused(tmp_path, sizes, told):
    file = written(tmp_path / "a.jsonl", ADA, LONG)
    with pytest.raises(UserError, match=told):
        dispatch(["data", "split", str(file), "--out", str(tmp_path / "out"), *sizes])
