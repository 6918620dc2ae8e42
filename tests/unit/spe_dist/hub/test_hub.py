"""Models go to a hub and come back from it; whatever goes wrong is one line, and leaves nothing half-done."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants

from data_shards.errors import UserError
from launcher.cli import dispatch
from launcher.serve import models_of
from launcher.serving.model_source import folder_of
from launcher.serving.service import version_of_files
from spe_dist import Extractor, SpanPairModel
from tests.unit.spe_dist.finetuning.untrained import save_untrained
from tests.unit.spe_dist.hub.hub_server import READ_ONLY, TOKEN, Hub, Repository

TEXT = "Marie Curie was born in Warsaw."
NAME = "ann/people"


def said(*command: object) -> str:
    """The one line that a command ends with."""
    with pytest.raises(UserError) as caught:
        dispatch([str(part) for part in command])
    assert "\n" not in str(caught.value) and TOKEN not in str(caught.value)
    return str(caught.value)


def refusal(load: type[Extractor] | type[SpanPairModel], name: object = NAME, **settings: str) -> str:
    """The one line by which a model is not loaded."""
    with pytest.raises(UserError) as caught:
        load.from_pretrained(name, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_extractor_comes_back_from_the_hub_as_it_was(
    hub: Hub, extractor: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (extractor / "notes.txt").write_text("mine")
    dispatch(["push", str(extractor), NAME, "--license", "mit"])
    printed = capsys.readouterr().out
    assert f"pushed 7 files, 0.2 MB, to {hub.address}/{NAME}" in printed and "notes.txt" in printed
    assert "licence" not in printed and "language" not in printed
    pushed = hub.repositories[NAME].branches["main"]
    del pushed[".gitattributes"]
    names = {path.name for path in extractor.iterdir()} - {"notes.txt"}
    assert pushed.keys() == names and len(names) == 7
    assert all(pushed[name] == (extractor / name).read_bytes() for name in names - {"README.md"})

    pushed["pytorch_model.bin"] = pushed["code.py"] = b"\x80\x04harm"  # by whoever else may write there
    found = Extractor.from_pretrained(NAME, device="cpu")([TEXT])
    assert found == Extractor.from_pretrained(extractor, device="cpu")([TEXT])
    assert found[0].entities
    assert not [path for path in hub.asked if ".bin" in path or ".py" in path]

    asked = len(hub.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert Extractor.from_pretrained(Path(NAME), device="cpu")([TEXT]) == found
    dispatch(["predict", NAME, "--text", TEXT, "--out", str(tmp_path / "found.jsonl"), "--device", "cpu"])
    assert '"entities"' in (tmp_path / "found.jsonl").read_text()
    assert len(hub.asked) == asked


def test_a_service_takes_what_the_hub_has_now_and_seeks_no_folder_there(
    hub: Hub, extractor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dispatch(["push", str(extractor), NAME])
    models = models_of([NAME, f"other={NAME}", f"mine={extractor}"])
    assert models == {"people": NAME, "other": NAME, "mine": extractor}
    first = version_of_files(folder_of(models["people"]))
    hub.repositories[NAME].branches["main"]["extractor.json"] += b" "
    Path(NAME).mkdir(parents=True)  # a folder of that name is no reason to leave the hub
    now = folder_of(models["people"])
    assert (now / "extractor.json").read_bytes().endswith(b" ") and version_of_files(now) != first
    shutil.rmtree(extractor)
    asked = len(hub.asked)
    assert folder_of(models["mine"]) == extractor and len(hub.asked) == asked
    assert "ann/wiki" in said("serve", "ann/wiki")


def test_the_card_has_what_the_run_tells_and_the_hubs_schema(
    hub: Hub, extractor: Path, capsys: pytest.CaptureFixture
) -> None:
    dispatch(["push", str(extractor), NAME, "--dry-run"])
    assert hub.asked == []
    printed = capsys.readouterr().out
    assert "model-index:" in printed and f"would push 7 files, 0.2 MB, to {NAME}" in printed and "--license" in printed
    dispatch(["push", str(extractor), NAME, "--dataset", "lab/conll04"])
    text = hub.repositories[NAME].branches["main"]["README.md"].decode()
    assert "/home" not in text and "FOLDER" not in text
    assert f"spe predict {NAME}" in text and f'f("{NAME}")' in text
    data = ModelCard(text).data  # checks the results
    assert (data.library_name, data.pipeline_tag, data.language) == ("spe_dist", "token-classification", "en")
    assert (data.base_model, data.datasets, data.license, data.tags) == (
        "lab/small-bert",
        ["lab/conll04"],
        None,
        ["people"],
    )
    results = {
        (one.task_type, one.dataset_type, one.dataset_name, one.dataset_split, one.metric_type, one.metric_value)
        for one in data.eval_results
    }
    assert results == {
        ("token-classification", "lab/conll04", "conll 04.json", "test", "f1", 0.8765),
        ("relation-extraction", "lab/conll04", "conll 04.json", "test", "f1", 0.65),
        ("relation-extraction", "lab/conll04", "conll 04.json", "test", "f1", 0.5),
    }
    assert len({one.metric_name for one in data.eval_results}) == 3


def test_an_encoder_comes_back_from_a_branch_of_a_private_model(hub: Hub, encoder: Path, capsys) -> None:
    dispatch(["push", str(encoder), "ann/wiki", "--private", "--revision", "tried"])
    printed = capsys.readouterr().out
    assert 'from_pretrained("ann/wiki", revision="tried")' in printed
    assert "no licence" in printed and "no language" in printed  # the rules were of none
    repository = hub.repositories["ann/wiki"]
    assert repository.private and "config.json" not in repository.branches["main"]
    data = ModelCard(repository.branches["tried"]["README.md"].decode()).data
    assert (data.library_name, data.pipeline_tag, data.eval_results) == ("transformers", "feature-extraction", None)
    here = SpanPairModel.from_pretrained(encoder)
    there = SpanPairModel.from_pretrained("ann/wiki", revision="tried", token=READ_ONLY)
    one, other = (model.encode(TEXT, spans=["Warsaw"]).spans.tolist() for model in (here, there))
    assert one == other


def test_what_is_no_model_to_share_is_refused_before_the_hub_is_asked(
    hub: Hub, extractor: Path, encoder: Path, tmp_path: Path
) -> None:
    assert "spe finetune" in said("push", tmp_path / "nosuch", NAME)
    assert f"did you mean {extractor}?" in said("push", extractor.parents[1], NAME)
    (tmp_path / "runs/wiki/checkpoints").mkdir()
    assert "is a run: export it" in said("push", encoder.parent, NAME)
    other = save_untrained("entity_typing", tmp_path / "typing")
    assert "is a model of entity typing: only extractors and exported encoders" in said("push", other, NAME)
    for path in other.glob("entity_typing.*"):
        path.unlink()
    assert "is neither an extractor (no extractor.json" in said("push", other, NAME)
    for name in ("people", "../people", "ann/people/1"):
        assert "is not a name on the hub: give USER/MODEL" in said("push", extractor, name)
    assert "--language English" in said("push", extractor, NAME, "--language", "English")
    assert "--license MIT License: give one" in said("push", extractor, NAME, "--license", "MIT License")
    for name, content, complaint in (
        ("README.md", b"---\ntags: [\n---\n", "front matter is malformed"),
        ("README.md", b"---\nmodel-index: [{name: 1}]\n---\n", "front matter is malformed"),
        ("extractor.safetensors", b"\x80\x04nonsense", "is not a safetensors file"),
        ("more/optimizer.pt", b"x", "optimizer.pt may be a pickle"),
        ("tokenizer.json", None, "is not complete, tokenizer.json is missing"),
        ("encoder.onnx", b"x", "is an export for fast prediction on CPUs: push the model that it was made of"),
    ):
        copy = Path(shutil.copytree(extractor, tmp_path / "copy"))
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(content) if content is not None else (copy / name).unlink()
        assert complaint in said("push", copy, NAME)
        shutil.rmtree(copy)
    assert hub.asked == []


def test_what_the_hub_does_not_take_is_told_with_what_to_do(
    hub: Hub, extractor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = ("push", extractor, NAME)
    assert "the hub refuses its card" in said(*push, "--license", "to-kill")
    monkeypatch.setenv("HF_TOKEN", READ_ONLY)
    assert "the token does not allow this" in said(*push)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "does not accept the token" in said(*push)
    monkeypatch.delenv("HF_TOKEN")
    assert "hf auth login" in said(*push)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.fault = 503
    assert "a fault of its own (status 503): try again later" in said(*push)
    hub.fault = None
    assert hub.repositories == {}
    hub.repositories[NAME] = Repository()
    before = dict(hub.repositories[NAME].branches["main"])
    assert "is on the hub already, and public" in said(*push, "--private")
    assert hub.repositories[NAME].branches == {"main": before}
    dispatch([*map(str, push)])  # what is there already is no obstacle otherwise
    assert hub.repositories[NAME].branches["main"].keys() > before.keys()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert said(*push).endswith("(HF_HUB_OFFLINE is set: unset it where there is a network)")


def test_what_the_hub_does_not_give_is_told_with_what_to_do(
    hub: Hub, extractor: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "none of this name that you may see: check the name" in refusal(Extractor, "ann/nosuch")
    dispatch(["push", str(encoder), NAME, "--private"])
    assert f"{NAME} on the hub has no extractor.safetensors" in refusal(Extractor)
    assert "revision 'v9' (there is no such revision" in refusal(SpanPairModel, revision="v9")
    assert "give neither revision nor token" in refusal(SpanPairModel, encoder, revision="v9")
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.delenv("HF_TOKEN")
    assert "if it is private, log in (hf auth login) or set HF_TOKEN" in refusal(SpanPairModel)
    hub.repositories[NAME].private, hub.repositories[NAME].gated = False, True
    assert f"admits people one by one: ask at {hub.address}/{NAME}" in refusal(SpanPairModel)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    hub.fault = 500
    assert "fault of its own (status 500)" in refusal(SpanPairModel)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert "http://127.0.0.1:9 does not answer: check the network" in refusal(SpanPairModel)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = refusal(SpanPairModel)
    assert "HF_HUB_OFFLINE is set, and the cache does not hold all of it" in offline and "hf download" in offline
    monkeypatch.chdir(tmp_path)
    assert "runs/nosuch is not an extractor" in refusal(Extractor, "runs/nosuch")  # a mistyped path asks no hub
