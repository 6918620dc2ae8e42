import json
from pathlib import Path

import pytest

from spe_dist.versions import package_versions, this_machine
from tests.unit.spe_dist.random_documents import write_documents
from tests.unit.spe_dist.tiny_run import write_dataset


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """A dataset of one shard; beside it `entity_shards`, one with entities, and `document_shards`, one of documents."""
    folder = tmp_path_factory.mktemp("exactness") / "shards"
    write_dataset(folder, sentences=130)  # a few epochs in 50 steps; small probes, which every logged step runs
    write_dataset(folder.with_name("entity_shards"), sentences=130, entities=True)
    write_documents(folder.with_name("document_shards"), 130, shards=1)
    return folder


@pytest.fixture(scope="module", params=["spe", "enpar", "erica", pytest.param("mlm", marks=pytest.mark.slow)])
def method(request):
    """Each method in turn; `only_spe` where a test is about what the others have not."""
    return request.param


only_spe = pytest.mark.parametrize("method", ["spe"], indirect=True)


@pytest.fixture(scope="session")
def report(request):
    """A list of {"what", "case", "measure", "value", "bound"}; written where --exact-report says."""
    rows = []
    yield rows
    folder = request.config.getoption("--exact-report")
    if folder:
        data = {
            "command": " ".join(["pytest", *request.config.invocation_params.args]),
            "machine": this_machine(),
            "versions": package_versions(),
            "rows": rows,
        }
        Path(folder, "exactness.json").write_text(json.dumps(data, indent=1) + "\n")
        lines = ["| what | case | measure | value | bound |", "|---|---|---|---:|---:|"]
        lines += [f"| {r['what']} | {r['case']} | {r['measure']} | {r['value']:.1e} | {r['bound']:.0e} |" for r in rows]
        Path(folder, "exactness.md").write_text("\n".join(lines) + "\n")
