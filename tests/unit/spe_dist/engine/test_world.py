import pytest
import torch.distributed as dist

from data_shards.errors import UserError
from spe_dist.engine.compiler import require_compiler
from spe_dist.engine.world import World, start_process_group

KEYS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def bare_environment(monkeypatch):
    for key in KEYS:
        monkeypatch.setenv(key, "")  # so that monkeypatch removes what the code under test sets
        monkeypatch.delenv(key)
    return monkeypatch


def test_without_a_launcher_it_is_a_world_of_one(bare_environment):
    assert World.from_environment() == World(rank=0, size=1, local_rank=0)


def test_a_launcher_says_who_is_who(bare_environment):
    for key, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        bare_environment.setenv(key, value)
    world = World.from_environment()
    assert world == World(rank=5, size=8, local_rank=1)
    assert not world.is_first


def test_a_world_of_one_needs_no_launcher_and_no_fixed_port(bare_environment):
    world = World()
    start_process_group(world)
    try:
        assert dist.get_world_size() == 1
        start_process_group(world)  # a second time is no mistake
        assert world.all_gather_objects("mine") == ["mine"]
        assert world.broadcast_object("mine") == "mine"
        world.barrier()
    finally:
        dist.destroy_process_group()


def test_several_ranks_without_an_address_are_refused(bare_environment):
    with pytest.raises(UserError, match="MASTER_ADDR or MASTER_PORT is not set: start the ranks with torchrun"):
        start_process_group(World(rank=1, size=2, local_rank=1))


def test_torchrun_that_would_mix_up_attempts_on_several_machines_is_refused(bare_environment, monkeypatch):
    settings = {"USE_AGENT_STORE": "True", "MAX_RESTARTS": "3"}
    settings = {f"TORCHELASTIC_{name}": value for name, value in settings.items()}
    for name, value in (settings | {"GROUP_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        start_process_group(World(rank=1, size=2, local_rank=1))


@pytest.mark.parametrize(("programs", "missing"), [((), "C.. compiler"), (("g++",), "ninja")])
def test_a_missing_compiler_is_named_with_what_to_install(tmp_path, monkeypatch, programs, missing):
    for program in programs:
        (tmp_path / program).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=f"needs (a )?{missing}.*install"):
        require_compiler()


def test_a_compiler_named_by_cxx_must_be_there(tmp_path, monkeypatch):
    for program in ("g++", "ninja", "clang++"):
        (tmp_path / program).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "clang++ -stdlib=libc++")
    require_compiler()
    monkeypatch.setenv("CXX", "icpx")
    with pytest.raises(UserError, match="CXX names icpx"):
        require_compiler()
