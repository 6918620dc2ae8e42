"""The planted faults of `mutations.py` can still be planted, and the tests that see them exist."""

import shutil

import pytest

from tests.exactness.mutations import FAULTS, ROOT, plant


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_it_can_be_planted(fault, tmp_path):
    (tmp_path / fault.file).parent.mkdir(parents=True)
    shutil.copy(ROOT / fault.file, tmp_path / fault.file)
    plant(fault, tmp_path)
    compile((tmp_path / fault.file).read_text(), fault.file, "exec")
    for test in fault.tests:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text() if name else (ROOT / path).exists()
