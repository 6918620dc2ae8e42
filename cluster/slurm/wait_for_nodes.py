"""Wait until a Ray cluster has all its nodes: `python -m cluster.slurm.wait_for_nodes --nodes 4 --seconds 300`."""

from __future__ import annotations

import argparse
import sys
import time

import ray

from data_shards.errors import UserError

_PAUSE_SECONDS = 0.5


def wait_for_nodes(nodes: int, *, seconds: float) -> None:
    """Wait until so many nodes have joined the cluster that the environment names.

    Raises:
        UserError: fewer came in time.
    """
    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    try:
        end = time.monotonic() + seconds
        while (there := sum(node["Alive"] for node in ray.nodes())) < nodes:
            if time.monotonic() > end:
                raise UserError(
                    f"{there} of {nodes} nodes joined Ray in {seconds:.0f} s: check that they can reach the first one"
                )
            time.sleep(_PAUSE_SECONDS)
    finally:
        ray.shutdown()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    try:
        wait_for_nodes(arguments.nodes, seconds=arguments.seconds)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
