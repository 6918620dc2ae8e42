"""What Ray does today and this project relies on or works around, seen through its public calls.

If one of these tests fails after an upgrade, nothing is wrong yet: read what it says and change `cluster/` to match.
"""

import json
import sys

import pytest

from tests.integration.command import run
from tests.unit.spe_dist.tiny_run import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.ray]

# A driver with two fits of the same name: one in the main thread whose ranks raise, one in a thread of its own.
DRIVER = """
import json, os, pathlib, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
import ray, ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from data_shards.errors import UserError

OUT = pathlib.Path(sys.argv[1])
seen = {}

def ours(number, frame):
    pass

def observe(config):
    import threading
    import torch.distributed as dist
    if config["fail"]:
        raise UserError("what a rank says")
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        handler = "set"
    except ValueError:
        handler = "refused"
    context = ray.train.get_context()
    path = OUT / f"rank-{context.get_world_rank()}.json"
    path.write_text(json.dumps({
        "main thread": threading.current_thread() is threading.main_thread(),
        "handler": handler,
        "group": [dist.is_initialized(), dist.get_backend(), dist.get_rank(), dist.get_world_size()],
        "environment": {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "OURS")},
        "local rank": context.get_local_rank(),
        "folder": os.getcwd() == config["folder"],
    }))

def trainer(fail):
    return TorchTrainer(
        observe,
        train_loop_config={"fail": fail, "folder": os.getcwd()},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(
            name="pinned",
            storage_path=str(OUT / "runs"),
            failure_config=FailureConfig(max_failures=0),
            worker_runtime_env={"env_vars": {"OURS": "here", "PYTHONPATH": os.environ["PYTHONPATH"]}},
        ),
    )

def watch_interrupt(action):
    '''The handlers of Ctrl-C that were seen while an action ran.'''
    handlers, done = set(), threading.Event()
    def look():
        while not done.is_set():
            handlers.add(signal.getsignal(signal.SIGINT) is ours)
            time.sleep(0.05)
    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        action()
    finally:
        done.set()
        watcher.join()
    return sorted(handlers)

def in_thread(action):
    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(action).result()

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, ours)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    seen["SIGTERM is ours after ray.init"] = signal.getsignal(signal.SIGTERM) is ours
    signal.signal(signal.SIGINT, ours)
    failures = []
    def failing():
        try:
            trainer(True).fit()
        except ray.train.TrainingFailedError as error:
            failures.append(error)
    seen["SIGINT is ours, fit in the main thread"] = watch_interrupt(failing)
    causes = []
    for failure in failures[0].worker_failures.values():
        while failure is not None:
            causes.append(type(failure).__name__ + ": " + str(failure).strip().splitlines()[-1])
            failure = getattr(failure, "cause", None) or failure.__cause__
    seen["causes"] = causes
    seen["ranks that failed"] = sorted(failures[0].worker_failures)
    seen["SIGINT is ours after a failed fit"] = signal.getsignal(signal.SIGINT) is ours
    signal.signal(signal.SIGINT, ours)
    seen["SIGINT is ours, fit in a thread"] = watch_interrupt(lambda: in_thread(trainer(False).fit))
    seen["second fit ended"] = True
    (OUT / "driver.json").write_text(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the driver saw, and what each of two ranks did."""
    folder = tmp_path_factory.mktemp("pinned")
    script = folder / "driver.py"
    script.write_text(DRIVER)
    done = run(sys.executable, script, folder, RAY_TRAIN_V2_ENABLED="1", PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr[-3000:]
    driver = json.loads((folder / "driver.json").read_text())
    return driver, [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


def test_a_rank_runs_in_a_thread_where_signal_handlers_are_refused(seen):
    for rank in seen[1]:
        assert (rank["main thread"], rank["handler"]) == (False, "refused")


def test_the_process_group_is_up_when_a_rank_starts_and_the_environment_says_who_it_is(seen):
    for number, rank in enumerate(seen[1]):
        assert rank["group"] == [True, "gloo", number, 2]
        assert rank["local rank"] == number
        variables = rank["environment"]
        assert (variables["RANK"], variables["WORLD_SIZE"], variables["LOCAL_RANK"]) == (str(number), "2", str(number))


def test_variables_of_the_worker_environment_reach_the_ranks(seen):
    assert [rank["environment"]["OURS"] for rank in seen[1]] == ["here", "here"]


def test_ranks_start_in_another_folder_than_the_driver(seen):
    assert [rank["folder"] for rank in seen[1]] == [False, False]


def test_ray_init_takes_the_handler_of_sigterm_away(seen):
    """So the driver's own is installed after it."""
    assert seen[0]["SIGTERM is ours after ray.init"] is False


def test_fit_in_the_main_thread_takes_the_handler_of_ctrl_c_away_and_in_a_thread_it_does_not(seen):
    assert False in seen[0]["SIGINT is ours, fit in the main thread"]
    assert seen[0]["SIGINT is ours after a failed fit"] is False
    assert seen[0]["SIGINT is ours, fit in a thread"] == [True]


def test_what_a_rank_raised_is_among_the_causes_of_the_failure(seen):
    assert "UserError: what a rank says" in seen[0]["causes"]


def test_a_run_that_reported_no_checkpoint_can_be_started_again_under_its_name(seen):
    """The second fit had the name of the first, which had failed; without an error it came to its end."""
    assert seen[0]["ranks that failed"] and seen[0]["second fit ended"]
