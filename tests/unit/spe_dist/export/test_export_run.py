"""A run that was really trained, exported: what transformers and people load is what was trained."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer

import spe_dist
from data_shards.errors import UserError
from data_shards.shards.reader import ShardReader
from spe_dist.batches.batch import PackedSequences
from spe_dist.checkpoint.reader import newest_checkpoint
from spe_dist.export import span_pair_model
from spe_dist.export.export_run import check_out, export_run, written_whole
from spe_dist.export.span_pair_model import SpanPairModel
from spe_dist.methods.spe.collate import SpanPairCollate
from spe_dist.methods.spe.model import SpeEncoder, SpeModel
from spe_dist.models.saved_encoder import load_sentence_encoder
from spe_dist.recipe import load_recipe
from tests.unit.spe_dist.tiny_run import train_tiny_run

TEXT = "Marie Curie was born in Warsaw ."
LONGER = "Marie, Curie's rival; left Warsaw, and Marie wept."


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def shards(run: Path) -> ShardReader:
    return ShardReader(run.parent.parent / "shards")


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    return export_run(run)


@pytest.fixture(scope="module")
def model(exported: Path) -> SpanPairModel:
    return spe_dist.SpanPairModel.from_pretrained(exported)


@pytest.fixture(scope="module")
def trained(run: Path, exported: Path) -> SpeModel:
    """The model of the training loop with the checkpoint's master weights."""
    config = load_recipe(run / "config.yaml")
    hf_config = AutoModel.from_pretrained(exported).config
    model = SpeModel(config, SpeEncoder(config, load_sentence_encoder(str(exported), hf_config)))
    checkpoint = newest_checkpoint(run / "checkpoints")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(checkpoint.get(f"{name}.master"))
    return model.eval()


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("export")))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_automodel_is_the_trained_sentence_encoder(exported: Path, trained: SpeModel, shards: ShardReader) -> None:
    encoder = AutoModel.from_pretrained(exported).eval()
    assert encoder.config._attn_implementation != "packed"
    assert "packed" not in (exported / "config.json").read_text()
    pieces = shards.take(np.arange(6)).pieces
    longest = int(pieces.lengths.max())
    ids, mask = torch.zeros(6, longest, dtype=torch.int64), torch.zeros(6, longest, dtype=torch.int64)
    for row in range(6):
        ids[row, : pieces.lengths[row]] = torch.from_numpy(pieces.row(row).astype(np.int64))
        mask[row, : pieces.lengths[row]] = 1
    with torch.no_grad():
        padded = encoder(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
        packed = trained.encoder.sentence_encoder(pack(pieces))
    torch.testing.assert_close(padded, packed, atol=1e-5, rtol=0)


def pack(pieces) -> PackedSequences:
    positions = np.concatenate([np.arange(length) for length in pieces.lengths])
    starts = torch.from_numpy(pieces.offsets.astype(np.int32))
    ids = torch.from_numpy(pieces.values.astype(np.int64))
    return PackedSequences(ids, torch.from_numpy(positions), starts, int(pieces.lengths.max()))


def test_autotokenizer_gives_the_pieces_of_the_shards(exported: Path, model: SpanPairModel) -> None:
    tokenizer = AutoTokenizer.from_pretrained(exported)
    special = model.word_pieces.special_ids
    for text in (TEXT, LONGER, "Café-owners paid 3,50 (in 1911)."):
        expected = [special.cls, *model.word_pieces.encode_sentences([text]).pieces.values.tolist(), special.sep]
        assert tokenizer(text)["input_ids"] == expected
        assert tokenizer(model.word_pieces.words(text), is_split_into_words=True)["input_ids"] == expected
    assert tokenizer.mask_token_id == special.mask


def direct(trained: SpeModel, model: SpanPairModel, word_boundaries: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of the five spans and of the pair of TEXT, by the code that trains, with nothing masked."""
    records = model.word_pieces.encode_sentences([TEXT])
    collate = SpanPairCollate(
        special=model.word_pieces.special_ids, seed=0, lane_size=1, geometric_p=0.2,
        max_span_words=10, tbo_share=0.0, tbo_cap=0, spo_spans=0,
    )  # fmt: skip
    drawn = collate.show(records, np.array([word_boundaries]))
    ids = records.pieces.values.astype(np.int64)
    shown = {name: dataclasses.replace(one, ids=ids) for name, one in drawn.shown.items()}
    with torch.no_grad():
        encoded = trained.encoder.encode(collate.batch(dataclasses.replace(drawn, shown=shown)))
    return encoded.spans[0], encoded.queries[0]


def test_vectors_are_those_of_the_trained_model(model: SpanPairModel, trained: SpeModel) -> None:
    five, query = direct(trained, model, [0, 0, 2, 5, 6, 7])  # no word is left of the pair
    result = model.encode(TEXT, spans=["Marie Curie", (24, 30), "."], pairs=[("Marie Curie", "Warsaw")], project=True)
    torch.testing.assert_close(result.spans, five[[1, 3, 4]], atol=1e-6, rtol=0)
    torch.testing.assert_close(result.pairs[0], query, atol=1e-6, rtol=0)
    attended = model.encode(TEXT, pairs=[("Marie Curie", "Warsaw")]).pairs
    assert attended.shape == (1, model.description.span_encoder.size)
    projected = torch.nn.functional.normalize(trained.encoder.head(attended), dim=1)
    torch.testing.assert_close(projected[0], query, atol=1e-6, rtol=0)


def test_a_batch_is_each_text_alone(model: SpanPairModel) -> None:
    texts = [TEXT, "", LONGER, TEXT]
    spans = [["was born"], [], [(0, 5), "Warsaw", "'s"], []]
    pairs = [[], [], [((39, 44), "Warsaw"), ("rival", "left")], [("Curie", "Marie")]]
    batch = model.encode_batch(texts, spans=spans, pairs=pairs)
    for text, given_spans, given_pairs, result in zip(texts, spans, pairs, batch, strict=True):
        alone = model.encode(text, spans=given_spans, pairs=given_pairs)
        assert (len(result.spans), len(result.pairs)) == (len(given_spans), len(given_pairs))
        torch.testing.assert_close(result.spans, alone.spans, atol=1e-5, rtol=0)
        torch.testing.assert_close(result.pairs, alone.pairs, atol=1e-5, rtol=0)
    assert model.encode_batch([]) == []
    assert not batch[0].spans.requires_grad


def test_a_pair_in_reverse_order_is_encoded_in_text_order(model: SpanPairModel) -> None:
    result = model.encode(TEXT, pairs=[("Marie", "Warsaw"), ("Warsaw", "Marie")])
    torch.testing.assert_close(result.pairs[0], result.pairs[1])


@pytest.mark.parametrize(
    ("text", "spans", "pairs", "message"),
    [
        (TEXT, ["rie Cur"], [], r"'rie Cur' at \(2, 9\) .* not made of whole words: .* 'Marie Curie' at \(0, 11\)"),
        (TEXT, [(5, 6)], [], r"not made of whole words: the nearest are '(Marie|Curie)'"),
        (TEXT, [(0, 99)], [], r"span \(0, 99\) is not inside .*end <= 32"),
        (TEXT, [(3, 3)], [], "is not inside"),
        (TEXT, ["Paris"], [], "'Paris' does not occur in 'Marie"),
        (TEXT, [""], [], "'' does not occur"),
        (LONGER, ["Marie"], [], r"'Marie' occurs 2 times .* one of \(0, 5\), \(39, 44\)"),
        (TEXT, [], [("Marie Curie", "Curie")], "'Marie Curie' and 'Curie' of .* overlap"),
        ("a b " * 40, [], [], r"82 pieces with \[CLS\] and \[SEP\], .* at most 64: split it"),
    ],
)
def test_what_cannot_be_encoded_is_said_in_one_line(model, text, spans, pairs, message) -> None:
    with pytest.raises(UserError, match=message) as error:
        model.encode(text, spans=spans, pairs=pairs)
    assert "\n" not in str(error.value)


def test_spans_are_lists(model: SpanPairModel) -> None:
    with pytest.raises(UserError, match="one list for each of the 1 texts"):
        model.encode(TEXT, spans="Marie")
    with pytest.raises(UserError, match="one list for each of the 2 texts"):
        model.encode_batch([TEXT, TEXT], spans=[["Marie"]])


def test_the_momentum_encoder_is_another(run: Path, model: SpanPairModel, tmp_path: Path) -> None:
    momentum = SpanPairModel.from_pretrained(export_run(run, tmp_path / "deep" / "momentum", weights="momentum"))
    assert momentum.description.weights == "momentum"
    checkpoint = newest_checkpoint(run / "checkpoints")
    for name, parameter in momentum.named_parameters():
        assert torch.equal(parameter, checkpoint.get(f"key_encoder.{name}"))
    moved = [not torch.equal(p, dict(model.named_parameters())[name]) for name, p in momentum.named_parameters()]
    assert sum(moved) > len(moved) / 2


def test_an_earlier_step_is_exported_from_its_own_checkpoint(copied: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint of step 2 \(kept: 3\): train\.keep_every"):
        export_run(copied, step=2)
    at = copied / "checkpoints" / "step-000000003"
    newer = Path(shutil.copytree(at, at.with_name("step-000000009")))
    with pytest.raises(UserError, match=r"step-000000009 cannot be used \(its manifest\.json is that of step 3\)"):
        export_run(copied, step=9)
    (newer / "manifest.json").write_text((at / "manifest.json").read_text().replace('"step": 3', '"step": 9'))
    next(newer.glob("*.safetensors")).write_bytes(b"")
    assert files(export_run(copied, tmp_path / "earlier", step=3)) == files(exported)


def test_equal_weights_give_equal_bytes(run: Path, exported: Path, tmp_path: Path) -> None:
    before = files(exported)
    assert files(export_run(run, tmp_path / "again")) == before
    (exported / "stale").write_text("")
    assert files(export_run(run)) == before  # an export is replaced, whole
    assert {path.name for path in exported.parent.iterdir() if path.name.startswith(".")} == set()


def test_the_card_names_settings_data_and_no_place(run: Path, exported: Path, shards: ShardReader) -> None:
    card = (exported / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert shards.manifest.fingerprint in card
    for row in ("| cspo.temperature | 0.2 |", "| sentences | 200 |", "| tbo_accuracy | 0.", "| train.steps | 3 |"):
        assert row in card
    assert str(run.parent) not in card
    assert str(run.parent.parent) not in "".join(map(str, files(exported).values()))


def test_without_contrast_there_are_spans_but_no_pairs(tmp_path: Path) -> None:
    run = train_tiny_run(tmp_path, cspo={"weight": 0.0}, train={"steps": 1})
    model = SpanPairModel.from_pretrained(export_run(run))
    assert model.encode(TEXT, spans=["Warsaw"]).spans.shape == (1, 24)
    with pytest.raises(UserError, match="encodes no span pairs"):
        model.encode(TEXT, pairs=[("Marie", "Warsaw")])
    with pytest.raises(UserError, match="no momentum encoder"):
        export_run(run, weights="momentum")


def test_what_cannot_be_exported(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a run: no config\.yaml"):
        export_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match="contains other files than an export"):
        export_run(copied, copied)
    with pytest.raises(UserError, match="is a file"):
        export_run(copied, copied / "config.yaml")
    (checkpoint,) = (copied / "checkpoints").iterdir()
    (checkpoint / "state.json").write_text("{}")
    with pytest.raises(UserError, match=r"no checkpoint in .* can be used"):
        export_run(copied)
    shutil.rmtree(checkpoint)
    with pytest.raises(UserError, match="has no finished checkpoint yet"):
        export_run(copied)
    assert not (copied / "export").exists()


def test_a_failed_write_leaves_the_earlier_export(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(export_run(copied))

    def fill_the_disk(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(span_pair_model, "save_file", fill_the_disk)
    with pytest.raises(UserError, match=r"cannot write the export .* free some space"):
        export_run(copied)
    assert files(copied / "export") == before
    assert not list(copied.glob(".*"))


def test_an_export_leaves_a_run_in_progress_alone(copied: Path) -> None:
    being_written = copied / "checkpoints" / ".partial-step-000000004"
    being_written.mkdir()
    export_run(copied)
    assert being_written.exists()


def test_what_cannot_be_loaded(run: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not an exported model: no spe_dist\.json"):
        SpanPairModel.from_pretrained(run)
    newer = Path(shutil.copytree(exported, tmp_path / "newer"))
    description = json.loads((newer / "spe_dist.json").read_text())
    (newer / "spe_dist.json").write_text(json.dumps(description | {"format_version": 99}))
    with pytest.raises(UserError, match="format version 99"):
        SpanPairModel.from_pretrained(newer)
    (newer / "spe_dist.json").write_text(json.dumps(description | {"step": "many"}))
    with pytest.raises(UserError, match="malformed at step"):
        SpanPairModel.from_pretrained(newer)


_COMMAND = """
import sys
from launcher.cli import dispatch
assert "torch" not in sys.modules
dispatch(["export", *sys.argv[1:]])
from spe_dist import SpanPairModel
print(SpanPairModel.from_pretrained(sys.argv[-1]).encode("Rome fell .", spans=["Rome"]).spans.shape)
print(sorted({"deepspeed", "ray"} & set(sys.modules)))
"""


def test_the_command_says_how_to_load_and_needs_no_deepspeed(run: Path, tmp_path: Path) -> None:
    arguments = [str(run), "--weights", "momentum", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, *arguments], cwd=Path(spe_dist.__file__).parent.parent,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"wrote {tmp_path / 'out'}"
    assert f'AutoModel.from_pretrained("{tmp_path / "out"}")' in lines[1]
    assert f'SpanPairModel.from_pretrained("{tmp_path / "out"}")' in lines[2]
    assert lines[3:] == ["torch.Size([1, 24])", "[]"]


def test_a_folder_without_a_name_of_its_own_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not the name of a new folder"):
        check_out(tmp_path / "..", "description")


def test_what_a_killed_process_of_the_same_number_left_is_no_obstacle(tmp_path):
    """In containers, whoever starts again has the number of the one before."""
    out = tmp_path / "model"
    for kind in ("tmp", "old"):
        (tmp_path / f".model.{os.getpid()}.{kind}").mkdir()
    (tmp_path / f".model.{os.getpid()}.old" / "weights").write_text("before")  # killed between two renames
    with pytest.raises(ZeroDivisionError), written_whole(out) as unfinished:
        assert (out / "weights").read_text() == "before"
        (unfinished / "weights").write_text("half")
        raise ZeroDivisionError
    assert (out / "weights").read_text() == "before"
    (tmp_path / f".model.{os.getpid()}.tmp").mkdir()
    with written_whole(out) as unfinished:
        (unfinished / "weights").write_text("now")
    assert (out / "weights").read_text() == "now"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
