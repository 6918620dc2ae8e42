"""What a fine-tuning says of its data."""

import pytest

from spe_dist.extraction.model.constraints import Constraints
from spe_dist.extraction.model.encoded_sentences import LeftOut
from spe_dist.finetuning.data import about_left_out

HINT = " (model.detector spans finds entities that overlap)"


@pytest.mark.parametrize(
    ("detector", "overlapping", "said"),
    [
        ("tags", True, f"3 overlapping entities, 1 relations of overlapping entities{HINT}"),
        ("spans", True, "1 relations of overlapping entities"),
        ("spans", False, "3 overlapping entities, 1 relations of overlapping entities"),  # none are predicted
        ("tags", False, "3 overlapping entities, 1 relations of overlapping entities"),
    ],
)
def test_it_is_told_whether_overlapping_entities_are_learned(detector, overlapping, said):
    left_out = LeftOut(overlapping_entities=3, relations_of_overlapping_entities=1)
    constraints = Constraints(max_words=3, overlapping=overlapping, triples=None)
    told = about_left_out(left_out, detector, constraints)
    assert told == f"of the training data, the model cannot learn: {said}"
