"""Asking nodes. One that does not answer hides no other's answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from cluster.doctor.node_checks import Finding, Request, find
from cluster.doctor.node_probe import NodeProbe

Answer = Any | Finding  # a Finding with a failure, where there was no answer


class Nodes(Protocol):
    """Some nodes with a `NodeProbe` on each."""

    @property
    def addresses(self) -> Sequence[str]:
        """Address of each node, as the other nodes reach it."""
        ...

    @property
    def resources(self) -> Sequence[dict[str, float]]:
        """What Ray may give out on each node; nothing without Ray."""
        ...

    def ask(self, what: str, arguments: Sequence[Sequence[Any]], *, seconds: float) -> list[Answer]:
        """Call a method on every node, with a tuple of arguments for each; all at the same time."""
        ...

    def close(self) -> None:
        """Let go of the nodes."""
        ...


class ThisNode:
    """This machine, without Ray."""

    def __init__(self, request: Request) -> None:
        self.addresses = ["127.0.0.1"]
        self.resources: list[dict[str, float]] = [{}]
        self._probe = NodeProbe(request, 0)

    def ask(self, what: str, arguments: Sequence[Sequence[Any]], *, seconds: float) -> list[Answer]:
        """As `Nodes.ask`."""
        found = find(lambda: {"answer": getattr(self._probe, what)(*arguments[0])}, seconds)
        return [found if found.failure else found.values["answer"]]

    def close(self) -> None:
        """Nothing to let go."""
