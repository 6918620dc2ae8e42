"""What a fine-tuning says of its data."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from spe_dist.extraction.model.constraints import Constraints
from spe_dist.extraction.model.encoded_sentences import LeftOut
from spe_dist.extraction.predict.extractor_folder import ExtractorDescription
from tests.unit.spe_dist.extraction.tiny import ARCHITECTURE
from tests.unit.spe_dist.extraction.tiny_finetuning import config_in

HINT = " (model.detector spans finds entities that overlap)"


@pytest.mark.parametrize(
    ("detector", "overlapping", "said"),
    [
        ("tags", True, f"overlapping entities (3), relations of overlapping entities (1){HINT}"),
        ("spans", True, "relations of overlapping entities (1)"),
        ("spans", False, "overlapping entities (3), relations of overlapping entities (1)"),  # none are predicted
        ("tags", False, "overlapping entities (3), relations of overlapping entities (1)"),
    ],
)
def test_it_is_told_whether_overlapping_entities_are_learned(detector, overlapping, said, tmp_path):
    left_out = LeftOut(overlapping_entities=3, relations_of_overlapping_entities=1)
    constraints = Constraints(max_words=3, overlapping=overlapping, triples=None)
    architecture = replace(ARCHITECTURE, detector=detector)
    description = ExtractorDescription(
        entity_types=(), relation_types=(), architecture=architecture, constraints=constraints, language="en"
    )
    task = config_in(tmp_path).build_task()
    assert task.about_rows(SimpleNamespace(left_out=left_out), description) == [
        f"of the training data, the model cannot learn: {said}"
    ]
