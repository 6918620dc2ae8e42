"""How every command ends: quietly, or with one line for the person and a non-zero exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from data_shards.errors import UserError


def run_command(command: Callable[[list[str]], None]) -> None:
    """Run a command with this process's arguments; a UserError is printed as one line, without a traceback."""
    try:
        command(sys.argv[1:])
    except UserError as error:
        rank = os.environ.get("RANK", "0")
        print(f"error{'' if rank == '0' else f' (rank {rank})'}: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
