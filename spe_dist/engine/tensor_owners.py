"""Which rank keeps which named tensor of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping


def assign_to_ranks(sizes: Mapping[str, int], world_size: int) -> dict[str, int]:
    """Spread names over ranks so that every rank writes about as much.

    The largest goes first, always to the rank that has least so far. Depends on the arguments only, so every rank
    computes the same answer without asking.
    """
    load = [0] * world_size
    ranks: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        ranks[name] = load.index(min(load))
        load[ranks[name]] += sizes[name]
    return ranks
