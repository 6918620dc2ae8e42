"""What befalls loader processes: a death is noticed, and a request to stop the run is none to them."""

import os
import signal
import sys
import threading
import time

import psutil

from data_shards.shards.order import Order
from spe_dist.batches.loader import Steps, load_steps
from spe_dist.engine.batch_plan import BatchPlan
from tests.forked import run_forked
from tests.unit.spe_dist.batches.test_loader import Reader, collate

STEPS = 12


def batches():
    """Of two ranks, with one loader process."""
    order = Order((50, 31, 19), lanes=4, lane_size=3, seed=5)
    return load_steps(
        Steps(Reader(), order, collate, BatchPlan(4, 3, 2, 2).forwards(1)), first=0, last=STEPS, workers=1
    )


def loaders():
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def killed_as_in_a_worker_of_ray():
    """There the rank runs in a thread, and SIGCHLD is ignored."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    said = []

    def train():
        steps = batches()
        next(steps)
        loaders()[0].kill()
        killed = time.monotonic()
        try:
            list(steps)
        except RuntimeError as error:
            said.append(f"{error} after {time.monotonic() - killed:.0f} s")

    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    thread.join(timeout=60)
    sys.stdout.write(f"{said}")


def test_a_dead_loader_is_noticed_in_seconds_where_ray_ignores_the_deaths_of_children():
    done = run_forked(killed_as_in_a_worker_of_ray)
    assert "exited unexpectedly" in done.stdout, done.stdout + done.stderr[-3000:]
    assert int(done.stdout.rpartition("after")[2].split()[0]) < 20


def asked_to_stop_as_a_group():
    """As torchrun asks, and a terminal: all of the group, while a loader starts and when it works."""
    os.setpgrp()
    requests = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    for number in requests:
        signal.signal(number, lambda *_: None)

    def ask():
        for number in requests:
            os.killpg(0, number)

    threading.Timer(0.3, ask).start()
    steps = batches()
    loaded = [next(steps)]
    ask()
    loaded += list(steps)
    sys.stdout.write(f"{len(loaded)} steps")


def test_a_request_to_stop_leaves_the_loaders_to_the_steps_that_are_still_made():
    done = run_forked(asked_to_stop_as_a_group)
    assert f"{STEPS} steps" in done.stdout, done.stdout + done.stderr[-3000:]
