"""Formats, rows, the decision, and a tiny encoder that learns a few mentions by heart."""

import json
from pathlib import Path

import pytest
import torch

from data_shards.errors import UserError
from data_shards.text.word_pieces import WordPieces
from launcher.cli import dispatch
from launcher.finetune import read_arguments
from spe_dist.entity_typing.formats import parse_tagged, read_mentions
from spe_dist.entity_typing.model import decide
from spe_dist.entity_typing.rows import encode
from spe_dist.entity_typing.typed_mention import TypedMention
from spe_dist.finetuning.data import about_data, read_data
from spe_dist.finetuning.loop import finetune
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

FIGER = {"sent": "Ann lives in Paris.", "start": 13, "end": 18, "labels": ["/location", "/location/city", "/location"]}
UFET = {"annot_id": "u1", "left_context_token": ["in"], "mention_span": "Acme Inc.", "right_context_token": ["."],
        "y_str": ["company"]}  # fmt: skip
TYPES = {"Ann": ["person"], "Paris": ["place", "city"], "Acme": ["organization"]}


def test_both_formats(tmp_path):
    (tmp_path / "figer.json").write_text(json.dumps([FIGER, FIGER | {"labels": []}]))
    one, empty = read_mentions(tmp_path / "figer.json", language="en")
    assert one == TypedMention("0", ("Ann", "lives", "in"), ("Paris",), (".",), ("/location", "/location/city"))
    assert empty.types == ()
    (tmp_path / "figer.json").write_text(json.dumps([FIGER | {"sent": "🎉n lives in Paris."}]))
    assert next(read_mentions(tmp_path / "figer.json", language="en", offsets="utf16")).mention == ("Paris",)
    (tmp_path / "ufet.json").write_text(json.dumps(UFET) + "\n")
    assert list(read_mentions(tmp_path / "ufet.json", language="en")) == [
        TypedMention("u1", ("in",), ("Acme", "Inc."), (".",), ("company",))
    ]
    assert parse_tagged("in <e1>Acme</e1> .", "en") == TypedMention("1", ("in",), ("Acme",), (".",))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"text": "x"}, "d.json:1: neither 'sent' nor 'mention_span' is there: FIGER's"),
        (
            FIGER | {"end": 99},
            "the mention is on characters 13 up to, not including, 99, but the text has 19",
        ),
        (FIGER | {"start": "13"}, "d.json:1: sent, start and end must be a text and two whole numbers"),
        (UFET | {"mention_span": " "}, "d.json:1: mention_span is"),
        (UFET | {"y_str": "company"}, "d.json:1: y_str is not a list of texts"),
        ({k: v for k, v in UFET.items() if k != "y_str"}, "d.json:1: no field 'y_str'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, fields, told):
    (tmp_path / "d.json").write_text(json.dumps(fields) + "\n")
    with pytest.raises(UserError) as error:
        list(read_mentions(tmp_path / "d.json", language="en"))
    assert told in str(error.value) and "\n" not in str(error.value)


def test_rows_keep_the_mention():
    word_pieces = WordPieces.load(str(DEBUG_VOCAB))
    mentions = [TypedMention("a", ("the",) * 40, ("Acme",), ("in",) * 40, ("x", "new")),
                TypedMention("b", (), ("\u200b",), ("in",), ())]  # fmt: skip
    rows = encode(mentions, ("w", "x"), word_pieces, max_pieces=20)
    ids = word_pieces.encode_words(["Acme"]).values.tolist()
    (a, b), (c, d) = rows.spans.tolist()
    assert (
        rows.pieces.row(0)[a:b].tolist() == ids and rows.num_pieces[0] == 18 and rows.is_cut.tolist() == [True, False]
    )
    assert rows.pieces.row(1)[c:d].tolist() == [word_pieces.special_ids.unk]
    assert rows.batch(torch.tensor([0, 1]).numpy(), torch.device("cpu"))[2].tolist() == [[0, 1], [0, 0]]


def test_the_best_type_always_counts():
    scores = torch.tensor([[-3.0, -1.0, -2.0], [0.1, -0.1, 2.0]])
    assert decide(scores, 0.5).tolist() == [[False, True, False], [True, False, True]]
    assert decide(scores, 0.2).tolist() == [[False, True, False], [True, True, True]]


def config_in(folder: Path, *more: str):
    data = folder / "data.json"
    lines = [
        {"annot_id": f"{name}{side}", "left_context_token": [side], "mention_span": name, "right_context_token": ["in"],
         "y_str": types}
        for name, types in TYPES.items() for side in ("the", "of")
    ]  # fmt: skip
    if not data.exists():
        data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    tiny = [f"--start.tokenizer={DEBUG_VOCAB}", f"--run.folder={folder}", "--encoder.layers=1", "--name=tiny",
            "--encoder.hidden-size=32", "--encoder.heads=2", "--encoder.intermediate-size=48", "--train.precision=fp32",
            "--encoder.max-positions=64", "--encoder.dropout=0", "--optimizer.learning-rate=5e-3", "--train.epochs=30",
            "--train.batch-size=3", "--train.checkpoint-every=0", "--optimizer.heads=1"]  # fmt: skip
    files = [f"--{part}={data}" for part in ("train", "dev", "test")]
    return read_arguments(["entity-typing", "--config", "finetune_entity_typing_cpu", *files, *tiny, *more])[0]


def test_it_learns_is_scored_and_predicts(tmp_path):
    config = config_in(tmp_path)
    result = run_ranks(finetune, 1, config)[0]
    assert result.test == pytest.approx(dict.fromkeys(("accuracy", "macro_f1", "micro_f1", "macro_f1_ufet"), 1.0))
    model = Path(config.run_folder) / "seed-42" / "model"
    described = json.loads((model / "entity_typing.json").read_text())
    assert described["types"] == ["city", "organization", "person", "place"] and 0.05 <= described["threshold"] < 1
    assert "Trained for entity_typing" in (model / "README.md").read_text()
    dispatch(["predict", str(model), str(tmp_path / "data.json"), "--out", str(tmp_path / "out.jsonl")])
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [set(one["y_str"]) for one in found] == [set(types) for types in TYPES.values() for _ in "ab"]
    with pytest.raises(UserError, match="--text needs one <e1>"):
        dispatch(["predict", str(model), "--text", "Acme"])


def test_what_data_lack_is_said(tmp_path):
    config = config_in(tmp_path)
    (tmp_path / "other.json").write_text(json.dumps(UFET) + "\n" + json.dumps(UFET | {"y_str": []}) + "\n")
    task = read_arguments(["entity-typing", f"--train={config.data.train}", f"--dev={tmp_path / 'other.json'}",
                           f"--test={config.data.train}"])[0].build_task()  # fmt: skip
    lines = about_data(task, read_data(task))
    assert "4 types to learn" in lines and "1 of 2 dev mentions have no type; they are kept" in lines
    assert "1 type of dev cannot be predicted: not in the training data" in lines
    assert any("warning: 6 of 6 test mentions are learned from too" in line for line in lines)
    (tmp_path / "data.json").write_text(json.dumps(UFET | {"y_str": []}) + "\n")
    with pytest.raises(UserError, match="has no mention with a type"):
        read_data(task)
