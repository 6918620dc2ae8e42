"""All nodes of a Ray cluster, each with a `NodeProbe` in an actor of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.doctor.node_checks import Finding, Request, one_line
from cluster.doctor.node_probe import NodeProbe
from cluster.doctor.nodes import Answer


class RayNodes:
    """All living nodes of the Ray cluster that this process has joined."""

    def __init__(self, request: Request, environment: dict[str, str]) -> None:
        alive = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeManagerAddress"])
        self.addresses = [str(node["NodeManagerAddress"]) for node in alive]
        self.resources = [dict(node["Resources"]) for node in alive]
        probe = ray.remote(NodeProbe)
        self._probes = [
            probe.options(  # takes no CPU: a busy cluster can be examined too
                num_cpus=0,
                max_concurrency=8,  # what hangs, such as a lost network folder, must not keep the rest waiting
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
                runtime_env={"env_vars": environment},
            ).remote(request, index)
            for index, node in enumerate(alive)
        ]

    def ask(self, what: str, arguments: Sequence[Sequence[Any]], *, seconds: float) -> list[Answer]:
        """As `Nodes.ask`."""
        calls = [getattr(probe, what).remote(*given) for probe, given in zip(self._probes, arguments, strict=True)]
        ray.wait(calls, num_returns=len(calls), timeout=seconds)
        return [_answer(call, seconds) for call in calls]

    def close(self) -> None:
        """End what runs on the nodes."""
        for probe in self._probes:
            ray.kill(probe)


def _answer(call: Any, seconds: float) -> Answer:
    try:
        return ray.get(call, timeout=0.1)
    except GetTimeoutError:
        return Finding(failure=f"the node did not answer within {seconds:.0f} s")
    except RayError as error:
        cause = getattr(error, "cause", None) or error
        return Finding(failure=one_line(cause))
