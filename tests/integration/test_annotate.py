"""Annotating a dataset on Ray: the same bytes however it is run, and after a kill."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_shards.errors import UserError
from data_shards.pipeline.annotate import annotate
from data_shards.pipeline.build_config import AnnotateConfig, BuildConfig
from data_shards.sample.corpus import generate
from data_shards.shards import manifest
from data_shards.shards.reader import ShardReader, verify
from tests.integration.test_build import kill_when_units_are_finished, names, tars
from tests.unit.data_shards.conftest import build_here
from tests.unit.data_shards.entity_pipelines import write_ruler

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

RUN = """
import sys
from pathlib import Path
from data_shards.pipeline.annotate import annotate
from data_shards.pipeline.build_config import AnnotateConfig
dataset, out, ner = sys.argv[1:]
annotate(AnnotateConfig(dataset, Path(out), ner, min_entities=2, workers=1))
"""


@pytest.fixture
def settings(dataset: Path, tmp_path: Path) -> AnnotateConfig:
    """Annotates with half of the names that the corpus tells."""
    found: dict[str, list[str]] = {}
    for sentence in generate(300, seed=5):
        for entity in sentence.entities:
            found.setdefault(entity.type, []).append(" ".join(sentence.words[entity.start : entity.end]).lower())
    return AnnotateConfig(
        str(dataset), tmp_path / "out", write_ruler(tmp_path / "ner", found), min_entities=2, workers=2
    )


def test_an_annotated_dataset_has_what_the_pipeline_found_and_is_not_annotated_twice(
    settings: AnnotateConfig, dataset: Path, tmp_path: Path
) -> None:
    clean = annotate(settings)
    assert clean.units == 8 and clean.units_reused == 0
    assert names(settings.out) == {*tars(settings.out), "manifest.json", "tokenizer"}
    check_what_came_out(settings, dataset)
    assert annotate(settings).workers == 0
    with pytest.raises(UserError, match=r"other settings \(entities differ\)"):
        annotate(replace(settings, min_entities=3))
    with pytest.raises(UserError, match="already has entities"):
        annotate(replace(settings, dataset=str(settings.out), out=tmp_path / "again"))
    with pytest.raises(UserError, match="no record has 99 entities"):
        annotate(replace(settings, min_entities=99, out=tmp_path / "none"))


@pytest.mark.slow
def test_a_killed_annotation_goes_on_and_gives_the_same_bytes(settings: AnnotateConfig, tmp_path: Path) -> None:
    """As a killed build does, which `make test` has."""
    killed = tmp_path / "killed"
    kill_when_units_are_finished(RUN, [settings.dataset, str(killed), settings.ner], killed, units=2)
    with pytest.raises(UserError, match="is not a dataset"):
        manifest.load(killed)
    finished = {path.stem: (killed / f"{path.stem}.tar").stat().st_mtime_ns for path in killed.glob(".units/*.json")}
    resumed = annotate(replace(settings, out=killed))
    annotate(settings)
    assert resumed.units_reused == len(finished) >= 2
    assert all((killed / f"{name}.tar").stat().st_mtime_ns == at for name, at in finished.items())
    assert tars(killed) == tars(settings.out)
    texts = [(folder / "manifest.json").read_text() for folder in (settings.out, killed)]
    assert texts[0] == texts[1].replace('"name": "killed"', '"name": "out"')


def check_what_came_out(settings: AnnotateConfig, dataset: Path) -> None:
    before, after = ShardReader(dataset).manifest, ShardReader(settings.out).manifest
    assert verify(settings.out) == []
    assert after.require_entities(settings.out) == ("Organisation", "Person", "Place", "Work", "Year")
    assert 0 < after.statistics.records < before.statistics.records
    dropped = after.statistics.dropped["too_few_entities"]
    assert after.statistics.records + dropped == before.statistics.records
    assert after.statistics.sentences == after.statistics.records + sum(after.statistics.dropped.values())
    assert after.statistics.entities == sum(after.entity_types.values()) > 2 * after.statistics.records
    assert after.build["annotated"] == {"fingerprint": before.fingerprint, "build": dict(before.build)}
    text = json.dumps(after.build)
    assert "en_pipeline" in text and str(settings.out.parent) not in text
    with pytest.raises(UserError, match=rf"{dataset} has no entities: .*spe shards annotate {dataset}"):
        before.require_entities(dataset)


def test_gold_entities_are_built_the_same_at_any_parallelism(settings: AnnotateConfig, tmp_path: Path) -> None:
    from data_shards.pipeline.build import build
    from data_shards.sample.corpus import write_corpus

    write_corpus(tmp_path / "sample.jsonl", sentences=200, seed=1)
    gold = BuildConfig(
        (str(tmp_path / "sample.jsonl"),), tmp_path / "1", str(Path(settings.dataset) / "tokenizer"), unit_documents=60,
        gold_entities=True, min_entities=3, parallelism=1,
    )  # fmt: skip
    built = build_here(gold)
    build(replace(gold, out=tmp_path / "2", parallelism=2))
    assert tars(tmp_path / "1") == tars(tmp_path / "2")
    assert verify(tmp_path / "1") == []
    assert list(built.entity_types) == ["Organisation", "Person", "Place", "Work", "Year"]
    assert built.build["entities"]["from"] == "gold" and built.statistics.dropped["too_few_entities"] > 0
    ner = build_here(replace(gold, out=tmp_path / "found", gold_entities=False, ner=settings.ner))
    assert (
        ner.build["entities"]["from"]["name"] == "en_pipeline"
        and ner.statistics.entities >= 3 * ner.statistics.records > 60
    )
    with pytest.raises(UserError, match="built with other settings"):
        build_here(replace(gold, out=tmp_path / "found"))
