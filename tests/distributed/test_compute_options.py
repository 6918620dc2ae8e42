"""How a forward is computed changes no run: padding, activations computed again, compiled layers."""

import pytest

from tests.exactness.runs import configure, final_state, metrics_of, run
from tests.unit.spe_dist.tiny_run import write_dataset

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compute") / "shards"
    write_dataset(folder, sentences=130)
    return folder


def test_padding_checkpointed_activations_and_the_reference_kernel_give_the_same_run(shards, tmp_path):
    variants = {
        "plain": {},
        "padded": {"compute": {"packed": False}},
        "checkpointed": {"compute": {"checkpoint_activations": True}},
        "reference": {"kernels": {"span_pool": "reference"}},
    }
    train = {"steps": 6, "zero_stage": 3, "gradients_every": 3}
    configs = [configure(shards, tmp_path / name, train=train, **changes) for name, changes in variants.items()]
    plain, *others = run(2, configs)
    expected = metrics_of(plain)
    for other in others:
        for mine, line in zip(metrics_of(other), expected, strict=True):
            assert mine["digest_masks"] == line["digest_masks"]
            assert mine["loss"] == pytest.approx(line["loss"], rel=1e-6)
            norms = [name for name in line if name.startswith("gradient")]
            assert len(norms) == (1 if line["step"] % 3 else 7)  # norm and share of three objectives
            assert [mine[name] for name in norms] == pytest.approx([line[name] for name in norms], rel=1e-5)


def test_activations_are_computed_again_with_the_same_dropout(shards, tmp_path):
    common = {"encoder": {"layers": 2, "dropout": 0.3}, "train": {"steps": 4}}
    plain = configure(shards, tmp_path / "plain", **common)
    again = configure(shards, tmp_path / "again", compute={"checkpoint_activations": True}, **common)
    folders = run(1, [plain, again])
    one, other = (final_state(folder) for folder in folders)
    different = [name for name in one if (one[name].double() - other[name].double()).abs().max() > 1e-6]
    assert not different
