"""`spe probe --documents` and `spe embeddings` as a person types them."""

import json
import shutil

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from data_shards.errors import UserError
from launcher.embeddings import main as embed
from launcher.probe import main as probe
from launcher.probe_documents import GAIN, bootstrap
from spe_dist.documents.probes import WITH_HEAD, WITH_RELATION, average, probe_documents
from spe_dist.export.pooled_model import load_pooled_model
from spe_dist.models.saved_encoder import save_sentence_encoder, save_tokenizer
from tests.unit.spe_dist.documents.tiny_documents import POSITIONS, random_documents, tiny_encoder, word_pieces

DOCUMENTS = random_documents(25, seed=5)


def as_docred(document):
    """With the numbers of entities that have mentions, from 0 on."""
    numbers = sorted({mention.entity for mention in document.mentions})
    entities = [
        [
            {"name": "x", "sent_id": one.sentence, "pos": [one.start, one.end], "type": one.type}
            for one in document.mentions
            if one.entity == number
        ]
        for number in numbers
    ]
    facts = [{"h": numbers.index(f.head), "t": numbers.index(f.tail), "r": f.type} for f in document.facts]
    return {"title": "a", "sents": [list(words) for words in document.words], "vertexSet": entities, "labels": facts}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two encoders and a file of documents."""
    folder = tmp_path_factory.mktemp("documents")
    for seed in (0, 1):
        (folder / f"encoder{seed}").mkdir()
        save_sentence_encoder(tiny_encoder(seed), folder / f"encoder{seed}")
        save_tokenizer(word_pieces(), tiny_encoder(seed), folder / f"encoder{seed}")
    (folder / "docs.json").write_text(json.dumps([as_docred(document) for document in DOCUMENTS]))
    return folder


def test_the_probe_prints_and_writes_what_was_measured(folder, tmp_path, capsys):
    arguments = ["--documents", str(folder / "docs.json"), "--out", str(tmp_path), "--seed", "3", "--json"]
    probe([str(folder / "encoder0"), *arguments])
    printed = capsys.readouterr()
    table = (tmp_path / "probe.txt").read_text()
    assert table in printed.err and "relation and head in front of the document" in table
    written = json.loads((tmp_path / "probe.json").read_text())
    assert json.loads(printed.out) == written
    model, _ = load_pooled_model(str(folder / "encoder0"))
    drawn = probe_documents(DOCUMENTS, word_pieces(), positions=POSITIONS, seed=3)
    expected = average(drawn.ask(model.sentence_encoder))
    measures = written["measures"]
    assert {name: measure["mean"] for name, measure in measures.items() if name != GAIN} == pytest.approx(expected)
    assert measures[GAIN]["mean"] == pytest.approx(expected[WITH_RELATION] - expected[WITH_HEAD])
    for measure in measures.values():
        assert measure["interval"][0] <= measure["mean"] <= measure["interval"][1]
    assert written["documents"]["asked"] == len(drawn.documents) and written["documents"]["format"] == "docred"


def test_intervals_are_those_of_whole_documents():
    """Three equal answers of a document are one: the interval of a mean of D coins."""
    drawn = probe_documents(DOCUMENTS, word_pieces(), positions=POSITIONS, measures=[WITH_RELATION, WITH_HEAD])
    documents = len(drawn.documents)
    coins = np.random.default_rng(0).integers(0, 2, documents).astype(float)
    answers = {WITH_RELATION: coins, WITH_HEAD: np.zeros(documents), "rd_1_nn": coins[drawn.pairs[:, 0]]}
    found = bootstrap(answers, drawn, seed=0)
    deviation = (coins.mean() * (1 - coins.mean()) / documents) ** 0.5
    for measure in found.values():
        if measure.mean:
            assert measure.interval[1] - measure.interval[0] == pytest.approx(2 * 1.96 * deviation, rel=0.25)
    assert found[GAIN].mean == coins.mean() and found["rd_1_nn"].questions == len(drawn.pairs)


def test_embeddings_before_and_after(folder, tmp_path, capsys):
    arguments = ["--documents", str(folder / "docs.json"), "--out", str(tmp_path), "--relations", "3", "--points", "60"]
    embed([str(folder / "encoder1"), "--before", str(folder / "encoder0"), *arguments, "--json"])
    printed, out = capsys.readouterr()
    written = json.loads((tmp_path / "embeddings.json").read_text())
    assert json.loads(printed) == written
    assert f"{sum(written['pairs']['labels'].values())} pairs, {len(written['pairs']['labels'])} relations" in out
    for kind in ("entities", "pairs"):
        before, after = written[kind]["before"], written[kind]["after"]
        assert before != after and all(-1 <= of["silhouette"] <= 1 and 0 <= of["purity"] <= 1 for of in (before, after))
        assert f"{after['silhouette']:+.3f}" in out and f"{before['purity']:.1%}" in out
    assert sum(written["entities"]["labels"].values()) == 60
    projector = tmp_path / "projector"
    config = text_format.Parse((projector / "projector_config.pbtxt").read_text(), ProjectorConfig())
    names = [one.tensor_name.partition(":")[0] for one in config.embeddings]
    assert names == ["entities_before", "entities_after", "pairs_before", "pairs_after"]
    for one in config.embeddings:
        vectors = np.loadtxt(projector / one.tensor_path, delimiter="\t")
        rows = [line.split("\t") for line in (projector / one.metadata_path).read_text().splitlines()]
        assert len(rows) == len(vectors) + 1 and {len(row) for row in rows} == {3}
        assert rows[0][1:] == ["name", "document"] and vectors.shape[1] in (16, 32)
    from PIL import Image

    assert min(Image.open(tmp_path / "embeddings.png").size) > 700


def test_embeddings_of_one_encoder_replace_earlier_ones(folder, tmp_path):
    for points in ("40", "30"):
        out = ["--out", str(tmp_path), "--points", points]
        embed([str(folder / "encoder0"), "--documents", str(folder / "docs.json"), *out])
    assert {path.name for path in (tmp_path / "projector" / "00000").iterdir()} == {"entities_after", "pairs_after"}
    written = json.loads((tmp_path / "embeddings.json").read_text())
    assert list(written["encoders"]) == ["after"] and sum(written["entities"]["labels"].values()) == 30


def test_what_cannot_be_asked_is_refused_in_one_line(folder, tmp_path):
    encoder, documents = str(folder / "encoder0"), str(folder / "docs.json")
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps([as_docred(document._replace(facts=())) for document in DOCUMENTS]))
    broken = shutil.copytree(folder / "encoder0", tmp_path / "broken")
    encoder_of_nothing = tiny_encoder()
    encoder_of_nothing.word_embeddings.weight[:] = torch.nan
    save_sentence_encoder(encoder_of_nothing, broken)
    out = ["--out", str(tmp_path / "out")]
    for command, arguments, message in (
        (probe, [encoder], "either --shards DIR or --documents FILE"),
        (probe, [encoder, "--documents", documents, "--shards", "x"], "either --shards DIR or --documents FILE"),
        (probe, [encoder, "--documents", documents, "--questions", "1"], "--questions 1: give at least 2"),
        (probe, [encoder, "--documents", str(bare)], "at least two documents with a relation"),
        (probe, [encoder, "--documents", str(tmp_path / "none.json")], "none.json"),
        (probe, [str(tmp_path / "nowhere"), "--documents", documents], "nowhere"),
        (probe, [str(broken), "--documents", documents], "vectors are not finite"),
        (embed, [encoder, "--documents", documents, "--points", "5", *out], "--points 5: give at least 20"),
        (embed, [encoder, "--documents", documents, "--relations", "1", *out], "--relations 1: give at least 2"),
        (embed, [encoder, "--documents", str(bare), *out], "no pairs of different relations in two or more documents"),
        (embed, [str(broken), "--documents", documents, *out], "vectors are not finite"),
    ):
        with pytest.raises(UserError, match=message) as error:
            command(arguments)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
