"""Turns findings into problems and their fixes. Pure: findings in, cells of a table and problems out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cluster.doctor.node_checks import Finding
from cluster.doctor.preflight import Node
from data_shards.counted import counted

_GIB = 2**30
_CLOCK_SECONDS = 1.0  # run logs of several nodes are read side by side
_SLOW_WRITE = 50.0  # MB/s
_LITTLE_SHARED_MEMORY = _GIB  # containers are often given 64 MiB; NCCL and loader processes need more
_FEW_FILES = 4096


@dataclass(frozen=True)
class Needs:
    """What the run needs of the cluster.

    Args:
        workers: ranks.
        cpus_per_worker: CPU cores of each.
        gpus_per_worker: 0 or 1.
        checkpoint_bytes: bytes of one checkpoint; None if that could not be found out.
        checkpoints: kept at the same time, the one being written included.
    """

    workers: int
    cpus_per_worker: int
    gpus_per_worker: int
    checkpoint_bytes: int | None
    checkpoints: int


@dataclass(frozen=True)
class Problem:
    """A problem to fix.

    Args:
        severity: an error stops a run or spoils it; a warning may not.
        check: row of the table.
        nodes: names; empty for the cluster as a whole.
        what: is wrong.
        cure: what to do.
    """

    severity: Literal["error", "warning"]
    check: str
    nodes: tuple[str, ...]
    what: str
    cure: str

    def __str__(self) -> str:
        where = f" on {_listed(self.nodes)}" if self.nodes else ""
        return f"{self.severity}: {self.check}{where}: {self.what}; {self.cure}"


def diagnose(nodes: Sequence[Node], needs: Needs) -> list[Problem]:
    """All problems, the same one of several nodes said once; errors first."""
    problems = [problem for node in nodes for problem in _of_node(node, needs)]
    problems += [*_unequal(nodes), *_not_shared(nodes), *_room_for_ranks(nodes, needs)]
    merged: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for problem in problems:
        merged[problem.severity, problem.check, problem.what, problem.cure] += problem.nodes
    together = [
        Problem(severity, check, tuple(names), what, cure) for (severity, check, what, cure), names in merged.items()
    ]
    return sorted(together, key=lambda problem: problem.severity != "error")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _of_node(node: Node, needs: Needs) -> list[Problem]:
    problems = []
    for check, finding in node.findings.items():
        if finding.failure:
            problems.append(Problem("error", check, (node.name,), finding.failure, _CURES[check]))
        elif check in _JUDGES:
            severity_what_cure = _JUDGES[check](finding.values, needs)
            problems += [
                Problem(severity, check, (node.name,), what, cure) for severity, what, cure in severity_what_cure
            ]
    return problems


_Judged = list[tuple[Literal["error", "warning"], str, str]]

_CURES = {
    "node": "check the node's Ray logs, or remove it from the cluster",
    "versions": "install the project's environment there",
    "devices": "fix the driver, or remove the node from the cluster",
    "machine": "is /proc mounted there?",
    "storage": "make run.folder a folder that this user can write, on every node",
    "shards": "give data.shards a folder or URL that every node reaches; `spe shards verify` lists all damage",
    "kernels": "install the project's environment there",
    "shared folder": "make run.folder a folder that this user can write, on every node",
    "clock": "check the node's load and network",
    "ports": "open all ports between the nodes",
    "all-reduce": "open all ports between the nodes; if they have several networks, name one with GLOO_SOCKET_IFNAME "
    "or NCCL_SOCKET_IFNAME",
}


def _judge_devices(values: Mapping[str, Any], needs: Needs) -> _Judged:
    gpus, usable = values["gpus"], values.get("usable", 0)
    if not needs.gpus_per_worker:
        return []
    if not gpus:
        return [("error", "no GPU", "set cluster.gpus_per_worker to 0, or take the node out of the cluster")]
    judged: _Judged = []
    if usable < len(gpus):
        driver, cuda = gpus[0]["driver"], values["cuda"]
        judged.append(
            ("error", f"torch can use {usable} of {len(gpus)} GPUs (driver {driver}, torch's CUDA {cuda})",
             "install a torch for this driver, or a newer driver")
        )  # fmt: skip
    broken = [number for number, gpu in enumerate(gpus) if gpu["ecc_errors"].isdigit() and int(gpu["ecc_errors"])]
    if broken:
        judged.append(("warning", f"uncorrected memory errors on GPU {broken}", "reset or replace it"))
    return judged


def _judge_machine(values: Mapping[str, Any], needs: Needs) -> _Judged:
    judged: _Judged = []
    if values["shared_memory_bytes"] < _LITTLE_SHARED_MEMORY:
        free = _size(values["shared_memory_bytes"])
        judged.append(("warning", f"{free} of /dev/shm are free", "give the container more (--shm-size, an emptyDir)"))
    if 0 <= values["open_files"] < _FEW_FILES:
        judged.append(("warning", f"{values['open_files']} open files are allowed", "raise it: ulimit -n 65536"))
    if values["cores"] < needs.cpus_per_worker:
        judged.append(
            ("warning", f"{counted(values['cores'], 'core')}, a rank computes with {needs.cpus_per_worker} threads",
             "lower cluster.cpus_per_worker")
        )  # fmt: skip
    return judged


def _judge_storage(values: Mapping[str, Any], needs: Needs) -> _Judged:
    judged: _Judged = []
    if values["write_megabytes_per_second"] < _SLOW_WRITE:
        speed = f"{values['write_megabytes_per_second']:.0f} MB/s"
        judged.append(("warning", f"run.folder is written at {speed}", "use a faster one, or save less often"))
    if needs.checkpoint_bytes is None:
        return judged
    needed = needs.checkpoint_bytes * needs.checkpoints
    if values["free_bytes"] < needed:
        what = f"{_size(values['free_bytes'])} free in run.folder, {needs.checkpoints} checkpoints take {_size(needed)}"
        judged.append(("error", what, "free some space, or lower train.keep_last"))
    return judged


def _judge_kernels(values: Mapping[str, Any], needs: Needs) -> _Judged:
    judged: _Judged = []
    if values["span_pool"]:
        cure = "install a C++ compiler (for CUDA nvcc), or run `make kernels` where there is one"
        what = f"span_pool ({values['body']}) cannot be built, the slower reference would run: {values['span_pool']}"
        judged.append(("warning", what, cure))
    if values.get("deepspeed"):
        what, _, cure = values["deepspeed"].partition(": ")
        judged.append(("error", what, cure or "install it"))
    return judged


def _judge_clock(values: Mapping[str, Any], needs: Needs) -> _Judged:
    off = abs(values["ahead_seconds"]) - values["within_seconds"]
    if off < _CLOCK_SECONDS:
        return []
    side = "ahead" if values["ahead_seconds"] > 0 else "behind"
    return [("warning", f"the clock is {off:.1f} s {side} of the driver's", "synchronise clocks (chrony, ntp)")]


def _judge_ports(values: Mapping[str, Any], needs: Needs) -> _Judged:
    problems = list(values["unreachable"].values())
    if not problems:
        return []
    more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
    return [("error", f"cannot reach {problems[0]}{more}", _CURES["ports"])]


_JUDGES: dict[str, Callable[[Mapping[str, Any], Needs], _Judged]] = {
    "devices": _judge_devices,
    "machine": _judge_machine,
    "storage": _judge_storage,
    "kernels": _judge_kernels,
    "clock": _judge_clock,
    "ports": _judge_ports,
}


def _unequal(nodes: Sequence[Node]) -> list[Problem]:
    """Nodes that differ from most in a version or in the dataset."""
    problems = []
    for check, keys, cure in (
        ("versions", None, "install the same everywhere, or give all nodes one image"),
        ("shards", ("dataset",), "copy one dataset to all nodes, or use a folder that they share"),
    ):
        found = {node.name: node.findings[check].values for node in nodes if _found(node, check)}
        names = keys or tuple(dict.fromkeys(key for values in found.values() for key in values))
        for key in names:
            problems += _differing(
                {name: str(values.get(key, "-")) for name, values in found.items()}, check, key, cure
            )
    return problems


def _differing(values: Mapping[str, str], check: str, key: str, cure: str) -> list[Problem]:
    counts: dict[str, int] = defaultdict(int)
    for value in values.values():
        counts[value] += 1
    usual = max(counts, key=lambda value: counts[value], default="")  # the check may have failed on all nodes
    return [
        Problem("error", check, (name,), f"{key} is {value[:12]}, elsewhere {usual[:12]}", cure)
        for name, value in values.items()
        if value != usual
    ]


def _not_shared(nodes: Sequence[Node]) -> list[Problem]:
    problems = []
    for node in nodes:
        if _found(node, "shared folder"):
            values = node.findings["shared folder"].values
            hidden = tuple(nodes[other].name for other in values["of"] if other not in values["sees"])
            if hidden:
                cure = "mount the same network folder on all nodes and give it as run.folder"
                what = f"run.folder does not show what {_listed(hidden)} wrote: it is another folder there"
                problems.append(Problem("error", "shared folder", (node.name,), what, cure))
    return problems


def _room_for_ranks(nodes: Sequence[Node], needs: Needs) -> list[Problem]:
    """Whether Ray can place all ranks now; without Ray, resources are not known."""
    if not any(node.resources for node in nodes):
        return []
    room = sum(_ranks_on(node.resources, needs) for node in nodes)
    if room >= needs.workers:
        return []
    what = f"there is room for {room} of {counted(needs.workers, 'rank')}"
    cure = "add nodes, or lower cluster.workers or cluster.cpus_per_worker (a run would wait for nodes to come)"
    return [Problem("warning", "ray", (), what, cure)]


def _ranks_on(resources: Mapping[str, float], needs: Needs) -> int:
    by_cpu = int(resources.get("CPU", 0) // needs.cpus_per_worker)
    if not needs.gpus_per_worker:
        return by_cpu
    return min(by_cpu, int(resources.get("GPU", 0) // needs.gpus_per_worker))


def _found(node: Node, check: str) -> bool:
    return check in node.findings and node.findings[check].failure is None


def rows(nodes: Sequence[Node], problems: Sequence[Problem]) -> list[tuple[str, list[str]]]:
    """The table: name of a check, and a short value for each node; what has a problem is marked."""
    table = [("offers", [_resources(node.resources) for node in nodes])]
    for check, name, cell in _CELLS:
        table.append((name, [_cell(node.findings.get(check), cell) for node in nodes]))
    bad = {(problem.check, name) for problem in problems if problem.severity == "error" for name in problem.nodes}
    checks = ["ray", *(check for check, _, _ in _CELLS)]
    return [
        (name, [f"{cell} !" if (check, node.name) in bad else cell for cell, node in zip(cells, nodes, strict=True)])
        for check, (name, cells) in zip(checks, table, strict=True)
    ]


def _cell(finding: Finding | None, cell: Callable[[Mapping[str, Any]], str]) -> str:
    if finding is None:
        return "-"
    return "failed" if finding.failure else cell(finding.values)


def _resources(resources: Mapping[str, float]) -> str:
    parts = [f"{resources[kind]:.0f} {kind}" for kind in ("CPU", "GPU") if kind in resources]
    return ", ".join(parts) or "-"


def _gpus(values: Mapping[str, Any]) -> str:
    if not values["gpus"]:
        return "no GPU"
    first = values["gpus"][0]
    return f"{len(values['gpus'])} x {first['name']}, driver {first['driver']}"


def _all_reduce_cell(values: Mapping[str, Any]) -> str:
    slowest = max(values["ranks"], key=lambda rank: rank["latency_microseconds"])
    bandwidth = min(rank["megabytes_per_second"] for rank in values["ranks"])
    return f"{slowest['latency_microseconds'] / 1e3:.1f} ms, {bandwidth:,.0f} MB/s"


_CELLS: list[tuple[str, str, Callable[[Mapping[str, Any]], str]]] = [
    ("versions", "python", lambda values: values["python"]),
    *(
        ("versions", package, lambda values, package=package: values.get(package, "-"))
        for package in ("torch", "deepspeed", "transformers", "ray", "glibc", "spe_dist")
    ),
    ("devices", "devices", _gpus),
    ("machine", "cores", lambda values: str(values["cores"])),
    ("machine", "memory free", lambda values: _size(values["available_bytes"])),
    ("machine", "/dev/shm free", lambda values: _size(values["shared_memory_bytes"])),
    ("machine", "open files", lambda values: str(values["open_files"])),
    ("kernels", "kernels", lambda values: values["body"] if not values["span_pool"] else "reference"),
    ("storage", "disk free", lambda values: _size(values["free_bytes"])),
    ("storage", "disk write, read", lambda values: f"{values['write_megabytes_per_second']:,.0f}, "
     f"{values['read_megabytes_per_second']:,.0f} MB/s"),
    ("shared folder", "same folder", lambda values: f"sees {len(values['sees'])} of {len(values['of'])}"),
    ("shards", "shards", lambda values: f"{values['shards']}, {values['verified']} verified"),
    ("clock", "clock", lambda values: f"{values['ahead_seconds'] * 1e3:+.0f} ms"),
    ("ports", "ports", lambda values: f"reaches {values['of'] - len(values['unreachable'])} of {values['of']}"),
    ("all-reduce", "all-reduce", _all_reduce_cell),
]  # fmt: skip


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
