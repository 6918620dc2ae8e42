"""On CPU, DeepSpeed compiles a communication operation when it starts: look for the tools before it dies of it."""

from __future__ import annotations

import os
import shutil

from data_shards.errors import UserError


def require_compiler() -> None:
    """Check that a C++ compiler and ninja can be found.

    Raises:
        UserError: one of them is missing; says what to install.
    """
    named = os.environ.get("CXX")
    if not any(shutil.which(program) for program in ([named.split()[0]] if named else ["g++", "c++"])):
        where = f"CXX names {named}, which is not there" if named else "neither g++ nor c++ is on PATH"
        raise UserError(
            f"DeepSpeed on CPU needs a C++ compiler, but {where}: install one (for example `apt-get install g++`)"
        )
    if shutil.which("ninja") is None:
        raise UserError(
            "DeepSpeed on CPU needs ninja, but it is not on PATH: `pip install ninja` and put the environment's bin "
            "folder on PATH (activating the environment does)"
        )
