"""Before a run: examine every node alone, then all of them together.

each node alone    versions, devices, machine, storage, shards, kernels
together           the same folder, clocks, ports between nodes, an all-reduce
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.doctor.node_checks import Finding, Request
from cluster.doctor.nodes import Answer, Nodes

_START_SECONDS = 120.0  # a worker process imports torch and Ray; on a busy node that takes long


@dataclass(frozen=True)
class Node:
    """What was found of one node; findings by name of the check."""

    name: str
    resources: dict[str, float]
    findings: dict[str, Finding]


def examine_nodes(nodes: Nodes, request: Request) -> list[Node]:
    """Make all checks."""
    count, patience = len(nodes.addresses), request.seconds + 10
    nothing: list[tuple[Any, ...]] = [()] * count
    hosts = nodes.ask("host", nothing, seconds=_START_SECONDS)
    alone = nodes.ask("examine", nothing, seconds=6 * request.seconds)
    findings = [dict(answer) if isinstance(answer, dict) else {"node": _failed(answer)} for answer in alone]
    # In turn, not at once: network and disks are measured, and one would slow the other down.
    together = {
        "shared folder": _shared_folder(nodes, request),
        "clock": _clocks(nodes),
        "ports": _ports(nodes, patience),
        "all-reduce": _all_reduce(nodes, findings, gpus=request.gpus, seconds=patience),
    }
    for name, of_nodes in together.items():
        for finding, node in zip(of_nodes, findings, strict=True):
            node[name] = finding
    named = zip(_names(hosts, nodes.addresses), nodes.resources, findings, strict=True)
    return [Node(name, resources, found) for name, resources, found in named]


def _names(hosts: Sequence[Answer], addresses: Sequence[str]) -> list[str]:
    names = [
        str(address) if isinstance(host, Finding) else str(host) for host, address in zip(hosts, addresses, strict=True)
    ]
    counts = Counter(names)
    return [name if counts[name] == 1 else f"{name}-{index}" for index, name in enumerate(names)]


def _failed(answer: Answer) -> Finding:
    return answer if isinstance(answer, Finding) else Finding(failure=f"answered {answer!r}")


def _shared_folder(nodes: Nodes, request: Request) -> list[Finding]:
    """Which nodes' files each node sees, and which of them could write one."""
    count = len(nodes.addresses)
    nothing: list[tuple[Any, ...]] = [()] * count
    left = nodes.ask("leave_marker", nothing, seconds=request.seconds)
    wrote = [index for index, answer in enumerate(left) if not isinstance(answer, Finding)]
    seen = nodes.ask("seen_markers", [(len(wrote),)] * count, seconds=request.seconds + 10)
    nodes.ask("remove_markers", nothing, seconds=request.seconds)
    findings = []
    for written, sees in zip(left, seen, strict=True):
        if isinstance(written, Finding) or isinstance(sees, Finding):
            findings.append(written if isinstance(written, Finding) else sees)
        else:
            findings.append(Finding({"sees": sees, "of": wrote}))
    return findings


def _clocks(nodes: Nodes) -> list[Finding]:
    """How far each node's clock is ahead of this one's, give or take half the time that asking took."""
    best: list[Finding] = [Finding(failure="no answer")] * len(nodes.addresses)
    for _ in range(3):
        before = time.time()
        answers = nodes.ask("clock", [()] * len(nodes.addresses), seconds=10.0)
        after = time.time()
        for index, answer in enumerate(answers):
            if isinstance(answer, Finding):
                best[index] = answer if best[index].failure else best[index]
                continue
            within = (after - before) / 2
            if best[index].failure or within < best[index].values["within_seconds"]:
                best[index] = Finding({"ahead_seconds": answer - (before + after) / 2, "within_seconds": within})
    return best


def _ports(nodes: Nodes, seconds: float) -> list[Finding]:
    """Whether any node reaches a free port of any other: what gloo, NCCL and Ray need."""
    count = len(nodes.addresses)
    ports = nodes.ask("listen", [()] * count, seconds=seconds)
    targets = [
        None if isinstance(port, Finding) else (address, port)
        for address, port in zip(nodes.addresses, ports, strict=True)
    ]
    answers = nodes.ask("unreachable", [(targets,)] * count, seconds=seconds)
    return [
        answer if isinstance(answer, Finding) else Finding({"unreachable": answer, "of": count}) for answer in answers
    ]


def _all_reduce(nodes: Nodes, findings: Sequence[dict[str, Finding]], *, gpus: bool, seconds: float) -> list[Finding]:
    """A sum over one rank per GPU, or per node without GPUs; two on a node that is alone."""
    lone = 2 if len(findings) == 1 else 1
    per_node = [_usable_gpus(found) if gpus else lone for found in findings]
    if 0 in per_node:
        reason = "not tried: a node has no GPU that can be used"
        return [Finding(failure=reason)] * len(findings)
    first = [sum(per_node[:index]) for index in range(len(per_node))]
    port = nodes.ask("free_port", [()] * len(findings), seconds=seconds)[0]
    if isinstance(port, Finding):
        return [Finding(failure=f"not tried: {port.failure}")] * len(findings)
    backend, world_size = "nccl" if gpus else "gloo", sum(per_node)
    calls = [
        (backend, range(start, start + ranks), world_size, (nodes.addresses[0], port))
        for start, ranks in zip(first, per_node, strict=True)
    ]
    return [_failed(answer) for answer in nodes.ask("all_reduce", calls, seconds=seconds)]


def _usable_gpus(found: dict[str, Finding]) -> int:
    return int(found["devices"].values.get("usable", 0)) if "devices" in found else 0
