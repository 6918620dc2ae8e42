import subprocess
import sys
import time

import pytest

from cluster.drain_node import leaving_nodes, wait_for_end_of

pytestmark = pytest.mark.any_version

NODES = [
    {"NodeID": "head", "Alive": True, "Resources": {"node:__internal_head__": 1.0}},
    {"NodeID": "one", "Alive": True, "Resources": {"GPU": 1.0}},
    {"NodeID": "lost", "Alive": False, "Resources": {}},
    {"NodeID": "two", "Alive": True, "Resources": {"GPU": 1.0}},
]


def test_a_worker_leaves_alone_and_with_the_head_all_go():
    assert leaving_nodes(NODES, here="two") == ["two"]
    assert leaving_nodes(NODES, here="head") == ["one", "two"]


@pytest.mark.parametrize(("lives", "until", "least", "most"), [(1.5, 60, 1, 30), (60, 1.5, 1.5, 30), (0, 60, 0, 10)])
def test_it_waits_for_processes_of_a_run_but_no_longer_than_it_may(lives, until, least, most):
    name = f"a-rank-of-this-test-{lives}"
    program = "import sys, time; print(flush=True); time.sleep(float(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", program, str(lives), name], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        if not lives:
            process.wait()
        started = time.monotonic()
        wait_for_end_of([name], started + until)
        assert least <= time.monotonic() - started <= most
        process.kill()
