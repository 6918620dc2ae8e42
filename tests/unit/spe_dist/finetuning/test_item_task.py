"""What `spe predict` does with models of tasks whose items are predicted each for itself."""

import json

import pytest

from data_shards.errors import UserError
from launcher.cli import dispatch
from spe_dist.finetuning import item_task
from spe_dist.tasks import TASKS
from tests.unit.spe_dist.finetuning.untrained import DESCRIPTIONS, line_of, save_untrained


def as_lines(task, numbers):
    return "".join(json.dumps(line_of(task, number)) + "\n" for number in numbers)


@pytest.mark.parametrize("task", DESCRIPTIONS)
def test_files_are_read_in_blocks_and_predicted_in_their_order(task, tmp_path, monkeypatch):
    model, first, second = save_untrained(task, tmp_path / "model"), tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text(as_lines(task, range(7)))
    second.write_text(as_lines(task, [7, 8]) + "{\n")
    built, name = TASKS[task].task_class()(None), "annot_id" if task == "entity_typing" else "id"
    found = []
    monkeypatch.setattr(item_task, "PORTION", 4)
    with pytest.raises(UserError, match=r"b\.jsonl:3: invalid JSON"):
        found.extend(built.predicted(model, [str(first)], None, device="cpu"))
        found.extend(built.predicted(model, [str(first), str(second)], None, device="cpu"))
    assert [one[name] for one in found] == [*"0123456", *"01234567"]  # what is behind was not read before
    monkeypatch.undo()
    for one, other in zip(built.predicted(model, [str(first)], None, device="cpu"), found, strict=False):
        assert one.keys() == other.keys() and one.get("score") == pytest.approx(other.get("score"), abs=2e-4)


def test_offsets_count_what_is_said(tmp_path):
    sentence = "🎉 Ann runs Acme."
    (tmp_path / "a.json").write_text(json.dumps([{"sent": sentence, "start": 3, "end": 6}]))
    out = tmp_path / "out.jsonl"
    model = save_untrained("entity_typing", tmp_path / "model")
    for unit, mention in (("utf16", "Ann"), ("characters", "nn")):
        dispatch(["predict", str(model), str(tmp_path / "a.json"), "--offsets", unit, "--out", str(out)])
        assert json.loads(out.read_text())["mention_span"] == mention


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ('{"language": "en"}', r"sentence_relations\.json is damaged \(relations: field required\)"),
        ("{}", r"sentence_relations\.json cannot be read \(names no language\)"),
    ],
)
def test_a_damaged_description_is_one_line(tmp_path, damage, told):
    model = save_untrained("sentence_relations", tmp_path / "model")
    (model / "sentence_relations.json").write_text(damage)
    with pytest.raises(UserError, match=told):
        dispatch(["predict", str(model), "--text", "<e1>a</e1> <e2>b</e2>"])
