"""Words after numbers."""

import pytest

from data_shards.counted import counted


@pytest.mark.parametrize(
    ("number", "what", "text"),
    [
        (1, "process", "1 process"),
        (0, "process", "0 processes"),
        (1200, "entity", "1,200 entities"),
        (2, "key", "2 keys"),
        (2, "less frequent relation", "2 less frequent relations"),
    ],
)
def test_one_is_one_and_others_are_many(number, what, text):
    assert counted(number, what) == text
