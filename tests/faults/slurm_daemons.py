"""A Slurm of our own on this machine: munged, slurmctld and slurmd with a configuration in a temporary folder."""

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.forked import clean_environment

DAEMONS = ("munged", "slurmctld", "slurmd")
# cred_expire: a requeued job waits so long before it starts again; 120 s by default.
# OverTimeLimit: minutes of mercy after the time limit; on a busy machine saving takes its time.
# linuxproc signals and kills all descendants, as the cgroups of real clusters do, and needs none.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2
MpiDefault=none
OverTimeLimit=30
MinJobAge=3600
ReturnToService=2
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4
PartitionName=main Nodes=ALL Default=YES
"""


@contextmanager
def running_slurm() -> Iterator[dict[str, str]]:
    """The environment in which `sbatch` and its like speak to a Slurm of one node; skips where there can be none."""
    _require_programs()
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # pytest's folders are too long for the path of a socket
    try:
        with ExitStack() as daemons:
            environment = _configure(folder)
            socket_path, key = folder / "munge.socket", folder / "munge.key"
            key.write_bytes(os.urandom(1024))
            key.chmod(0o400)
            munged = ["munged", "--foreground", "--force", f"--socket={socket_path}", f"--key-file={key}"]
            munged += [f"--{name}-file={folder / f'munged.{name}'}" for name in ("pid", "log", "seed")]
            daemons.enter_context(_daemon(munged, environment))
            _wait_for(socket_path.exists, "munged does not start", folder)
            daemons.enter_context(_daemon(["slurmctld", "-D"], environment))
            _start_slurmd(daemons, folder, environment)
            try:
                yield environment
            finally:  # a daemon that ends leaves its jobs running
                subprocess.run(["scancel", "--partition=main"], env=environment)
                _wait_for(lambda: not _output(environment, "squeue", "--noheader"), "jobs do not end", folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _require_programs() -> None:
    missing = [program for program in DAEMONS if shutil.which(program) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip(f"no {', '.join(missing)} here, and only root can install slurm-wlm and munge with apt-get")
    install = "apt-get install -y --no-install-recommends slurm-wlm munge"
    done = subprocess.run(
        ["sh", "-c", f"{install} || (apt-get update && {install})"],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode != 0:
        pytest.skip(f"apt-get cannot install slurm-wlm: {done.stderr.strip().splitlines()[-1:]}")


def _configure(folder: Path) -> dict[str, str]:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    user = pwd.getpwuid(os.geteuid()).pw_name
    text = CONFIGURATION.format(folder=folder, host=host, user=user, ports=[_free_port(), _free_port()])
    (folder / "slurm.conf").write_text(text.lstrip())
    without = {name: value for name, value in clean_environment().items() if not name.startswith(("SLURM", "SBATCH"))}
    return without | {"SLURM_CONF": str(folder / "slurm.conf")}


def _start_slurmd(daemons: ExitStack, folder: Path, environment: dict[str, str]) -> None:
    """Containers seldom have cgroups that can be written: ask for none, as each version of Slurm wants to be asked."""
    version = _output(environment, "slurmd", "-V")
    year = int((re.findall(r"(\d+)\.\d+", version) or ["0"])[0])
    (folder / "cgroup.conf").write_text(f"CgroupPlugin={'disabled' if year >= 23 else 'cgroup/v1'}\n")
    slurmd = daemons.enter_context(_daemon(["slurmd", "-D", "-N", "node"], environment))

    def is_idle() -> bool:
        if slurmd.poll() is not None:
            pytest.skip(f"slurmd does not run here: {_log_end(folder)}")
        return _output(environment, "sinfo", "--noheader", "--format", "%T") == "idle"

    _wait_for(is_idle, "the node does not become idle", folder)


def _output(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip()


@contextmanager
def _daemon(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for(condition, problem: str, folder: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{problem}: {_log_end(folder)}"
        time.sleep(0.2)


def _log_end(folder: Path) -> list[str]:
    return [line for path in sorted(folder.glob("*.log")) for line in path.read_text().splitlines()[-5:]]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
