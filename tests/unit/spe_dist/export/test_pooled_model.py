"""Models without span encoder: spans, directed pairs and documents as means of states, by plain transformers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from data_shards.errors import UserError
from spe_dist.export import export_run as exporting
from spe_dist.export.export_format import Description
from spe_dist.export.export_run import export_run
from spe_dist.export.pooled_model import load_pooled_model
from spe_dist.export.span_pair_model import SpanPairModel
from spe_dist.methods.registry import spec_of
from spe_dist.methods.run_summary import RunSummary
from tests.unit.spe_dist.tiny_run import train_tiny_run

TEXT = "Marie Curie was born in Warsaw . Marie went to Paris ."
WORDS = [["Marie", "Curie", "was", "born", "in", "Warsaw", "."], ["Marie", "went", "to", "Paris", "."]]
MARIE, WARSAW, PARIS = [(0, 11), (33, 38)], ["Warsaw"], ["Paris"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny_run(tmp_path_factory.mktemp("pooled"), train={"steps": 1})


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    """As of a method that says `pooling="mean"` and has no span encoder."""

    class Spec:
        @staticmethod
        def summarize(config, encoder) -> RunSummary:
            summary = spec_of(config).summarize(config, encoder)
            kept = replace(summary, span_encoder=None, pair_encoder=None, head_size=None, normalize=False)
            return replace(kept, pooling="mean", markers=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "spec_of", lambda config: Spec)
        return export_run(run)


@pytest.fixture(scope="module")
def model(exported: Path) -> SpanPairModel:
    return SpanPairModel.from_pretrained(exported)


def mean_of(exported: Path, *characters: tuple[int, int]) -> torch.Tensor:
    """Mean over mentions of the means of the states of their pieces."""
    tokenizer, encoder = AutoTokenizer.from_pretrained(exported), AutoModel.from_pretrained(exported).eval()
    given = tokenizer(TEXT, return_tensors="pt", return_offsets_mapping=True)
    places = given.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        states = encoder(**given).last_hidden_state[0]
    mentions = [
        torch.stack([states[i] for i, (a, b) in enumerate(places) if start <= a < b <= end]).mean(dim=0)
        for start, end in characters
    ]
    return torch.stack(mentions).mean(dim=0)


def test_a_span_is_the_mean_of_its_pieces_and_a_pair_has_a_direction(model, exported) -> None:
    assert model.description.markers
    result = model.encode(TEXT, spans=["Marie Curie", (24, 30)], pairs=[("Marie Curie", "Warsaw"), ("Warsaw", "Curie")])
    curie, warsaw = mean_of(exported, (0, 11)), mean_of(exported, (24, 30))
    torch.testing.assert_close(result.spans, torch.stack([curie, warsaw]), atol=1e-5, rtol=0)
    name = mean_of(exported, (6, 11))
    expected = torch.stack([torch.cat([curie, warsaw]), torch.cat([warsaw, name])])
    torch.testing.assert_close(result.pairs, expected, atol=1e-5, rtol=0)
    overlapping = model.encode(TEXT, pairs=[("Marie Curie", "Curie")]).pairs[0]
    torch.testing.assert_close(overlapping, torch.cat([curie, name]), atol=1e-5, rtol=0)
    nothing = model.encode(TEXT)
    assert nothing.spans.shape == (0, 32) and nothing.pairs.shape[0] == 0
    assert model.encode(TEXT, pairs=[("Curie", "Warsaw")], project=True).pairs.shape == (1, 64)


def test_documents_as_texts_and_as_words(model, exported) -> None:
    of_text = model.encode_documents([TEXT], entities=[[MARIE, WARSAW, PARIS]], pairs=[[(0, 2), (2, 0)]])[0]
    marie, warsaw, paris = mean_of(exported, *MARIE), mean_of(exported, (24, 30)), mean_of(exported, (47, 52))
    torch.testing.assert_close(of_text.entities, torch.stack([marie, warsaw, paris]), atol=1e-5, rtol=0)
    expected = torch.stack([torch.cat([marie, paris]), torch.cat([paris, marie])])
    torch.testing.assert_close(of_text.pairs, expected, atol=1e-5, rtol=0)
    places = [[(0, 0, 2), (1, 0, 1)], [(0, 5, 6)], [(1, 3, 4), (1, 3, 4)]]
    several = model.encode_documents(
        [WORDS, "", TEXT, [["\u200b", "Paris"]]],
        entities=[places, [], [PARIS], [[(0, 0, 2)]]],
        pairs=[[(0, 2)], [], [], []],
    )
    torch.testing.assert_close(several[0].entities, of_text.entities, atol=1e-5, rtol=0)
    torch.testing.assert_close(several[0].pairs, of_text.pairs[:1], atol=1e-5, rtol=0)
    assert several[1].entities.shape == (0, 32)
    torch.testing.assert_close(several[2].entities[0], paris, atol=1e-5, rtol=0)
    assert several[2].pairs.shape[0] == 0
    assert model.encode_documents([], entities=[]) == []


@pytest.mark.parametrize(
    ("document", "entities", "pairs", "message"),
    [
        (TEXT, [["Rome"]], [], "'Rome' does not occur in"),
        (TEXT, ["Paris"], [], r"document 0: entity 0 must be a list of one or more mentions, and is 'Paris'"),
        (TEXT, [PARIS, []], [], r"entity 1 must be a list of one or more mentions, and is \[\]"),
        (TEXT, [(0, 5)], [], r"entity 0 must be a list of one or more mentions, and is \(0, 5\)"),
        (TEXT, [[(0, 0, 2)]], [], r"mention \(0, 0, 2\) of a text: give its words, or its characters"),
        (WORDS, [["Paris"]], [], r"mention 'Paris' of sentences of words: give \(sentence, first word, word after"),
        (WORDS, [[(0, 5)]], [], r"mention \(0, 5\) of sentences of words"),
        (WORDS, [[(1, 4, 6)]], [], r"mention \(1, 4, 6\) is not inside the document"),
        (WORDS, [[(2, 0, 1)]], [], r"mention \(2, 0, 1\) is not inside the document"),
        (WORDS[0], [[(0, 0, 1)]], [], "document 0: give a text, or a list of sentences that are lists of words"),
        ([["\u200b"]], [[(0, 0, 1)]], [], "its words have no pieces"),
        (TEXT, [PARIS], [(0, 1)], r"pair \(0, 1\): name two of its 1 entities by their numbers"),
        (TEXT, [PARIS], [(0,)], r"pair \(0,\): name two of its 1 entities"),
        ("a b " * 40, [], [], r"document 0 has 82 pieces with \[CLS\] and \[SEP\], .* at most 64: split it"),
    ],
)
def test_what_cannot_be_encoded_is_said_in_one_line(model, document, entities, pairs, message) -> None:
    with pytest.raises(UserError, match=message) as error:
        model.encode_documents([document], entities=[entities], pairs=[pairs])
    assert "\n" not in str(error.value)


def test_a_list_for_each_document(model) -> None:
    with pytest.raises(UserError, match="entities: give one list for each of the 2 texts"):
        model.encode_documents([TEXT, TEXT], entities=[[PARIS]])


def test_the_folder_says_how_vectors_come_about(exported, tmp_path) -> None:
    card = (exported / "README.md").read_text()
    assert "An encoder of documents, their entities and entity pairs, pre-trained" in card
    assert "a pair's is [head ; tail]: it has a direction" in card
    described = json.loads((exported / "spe_dist.json").read_text())
    assert described["pooling"] == "mean" and described["span_encoder"] is None
    block = card.split("```python\n")[2].split("```")[0].replace("FOLDER", str(exported))
    known: dict = {}
    exec(block, known)
    assert known["document"].pairs.shape == (1, 64)
    AutoModel.from_pretrained(exported)


def test_an_export_with_a_span_encoder_says_nothing_of_pooling(run, tmp_path) -> None:
    folder = export_run(run, tmp_path / "spans")
    written = json.loads((folder / "spe_dist.json").read_text())
    assert not {"pooling", "mask_unit"} & set(written)
    usual = Description.load(folder)
    replace(usual, mask_unit="span").save(folder)
    assert usual.mask_unit == "piece" and Description.load(folder).mask_unit == "span"
    usual.save(folder)
    with pytest.raises(UserError, match="not pooled, so it encodes no documents"):
        SpanPairModel.from_pretrained(folder).encode_documents([TEXT], entities=[[PARIS]])


def test_any_encoder_can_be_pooled(run, exported, model, tmp_path) -> None:
    """The encoder of a run with span encoders, its export, and the same weights as a plain encoder."""
    spans = export_run(run, tmp_path / "spans")
    plain = Path(shutil.copytree(spans, tmp_path / "plain"))
    for name in ("spe_dist.json", "span_pair.safetensors"):
        (plain / name).unlink()
    expected = model.encode_documents([TEXT], entities=[[MARIE]])[0].entities
    titles = []
    for folder in (run, spans, exported, plain):
        loaded, title = load_pooled_model(str(folder))
        assert torch.equal(loaded.encode_documents([TEXT], entities=[[MARIE]])[0].entities, expected)
        assert not loaded.training
        titles.append(title)
    assert titles == [f"{run}, step 1", f"{spans}, step 1", f"{exported}, step 1", str(plain)]
    with pytest.raises(UserError, match="nowhere"):
        load_pooled_model(str(tmp_path / "nowhere"))
