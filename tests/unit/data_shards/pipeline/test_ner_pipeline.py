"""Entities by a spaCy pipeline."""

import json
import shutil
from pathlib import Path

import pytest
import spacy

from data_shards.errors import UserError
from data_shards.pipeline import ner_pipeline
from data_shards.pipeline.ner_pipeline import NerPipeline, pipeline_of_worker
from tests.unit.data_shards.entity_pipelines import write_ruler

SENTENCES = [["Ada", "Lovelace", "saw", "London", "."], [], ["Nobody", "."], ["In", "1843", ",", "bell", "left"]]
FOUND = [[[0, 2, 0], [3, 4, 1]], [], [], [[1, 2, 2], [3, 4, 0]]]


@pytest.fixture
def ruler(tmp_path: Path) -> str:
    return write_ruler(tmp_path / "ruler")


def test_finds_entities_of_words_with_only_what_that_needs(ruler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = NerPipeline(ruler)
    assert pipeline.info.types == ("Person", "Place", "Year")
    assert pipeline._nlp.pipe_names == ["entity_ruler"]
    found = pipeline.find(SENTENCES)
    assert [found.row(index).tolist() for index in range(4)] == FOUND
    assert found.values.shape == (4, 3)
    monkeypatch.setattr(ner_pipeline, "_ZONE", 1)
    again = pipeline.find([["Some", "words", str(number)] for number in range(50)] + SENTENCES)
    assert [again.row(50 + index).tolist() for index in range(4)] == FOUND
    assert len(pipeline.find([])) == 0 and pipeline.find([["x"]]).values.shape == (0, 3)


def test_what_a_finder_listens_to_runs_and_nothing_else(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec")
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96, "upstream": "tok2vec"}
    for name in ("tagger", "ner"):
        pipe = nlp.add_pipe(name, config={"model": {"tok2vec": listener}})
        pipe.add_label("X")
    nlp.add_pipe("sentencizer")
    nlp.initialize()
    nlp.to_disk(tmp_path / "p")
    pipeline = NerPipeline(str(tmp_path / "p"))
    assert pipeline._nlp.pipe_names == ["tok2vec", "ner"]
    assert len(pipeline.find(SENTENCES)) == 4


def test_its_files_are_its_identity(ruler: str, tmp_path: Path) -> None:
    same = shutil.copytree(ruler, tmp_path / "same")
    assert NerPipeline(str(same)).info.settings == NerPipeline(ruler).info.settings
    assert str(tmp_path) not in json.dumps(NerPipeline(ruler).info.settings)
    other = write_ruler(tmp_path / "other", {"Person": ["Ada"], "Place": ["York"], "Year": ["1"]})
    assert NerPipeline(other).info.sha256 != NerPipeline(ruler).info.sha256


def test_another_pipeline_on_another_machine_is_refused(ruler: str) -> None:
    info = NerPipeline(ruler).info
    write_ruler(Path(ruler), {"Person": ["Ada"], "Place": ["York"], "Year": ["1"]})
    with pytest.raises(UserError, match="the pipeline differs between machines"):
        pipeline_of_worker(info)


def test_pipelines_that_cannot_be_used_are_one_line(ruler: str, tmp_path: Path) -> None:
    def refuses(source: str, match: str) -> None:
        with pytest.raises(UserError, match=match) as caught:
            NerPipeline(source)
        assert "\n" not in str(caught.value)

    refuses("en_core_web_huge", r"python -m spacy download en_core_web_huge.*spacy train")
    refuses(str(tmp_path / "missing"), "no such folder")
    refuses("numpy", "numpy.*cannot load this pipeline")
    spacy.blank("en").to_disk(tmp_path / "blank")
    refuses(str(tmp_path / "blank"), "has no component that finds entities")
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "sentences")
    refuses(str(tmp_path / "sentences"), r"no component that finds entities \(only sentencizer\)")
    many = write_ruler(tmp_path / "many", {f"T{number}": [f"w{number}"] for number in range(1025)})
    refuses(many, "1025 types of entities, more than the 1024 that shards can hold")
    config = (Path(ruler) / "config.cfg").read_text()
    (Path(ruler) / "config.cfg").write_text(config.replace('"entity_ruler"', '"future_ruler"'))
    meta = json.loads((Path(ruler) / "meta.json").read_text())
    (Path(ruler) / "meta.json").write_text(json.dumps(meta | {"spacy_version": ">=9.0.0,<10.0.0"}))
    refuses(ruler, r"spaCy 3\.[\d.]+ cannot load this pipeline, which was made for spaCy >=9\.0\.0,<10\.0\.0")
