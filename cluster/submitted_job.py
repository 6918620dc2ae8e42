"""Whether this process is the entry point of `ray job submit`, and what that means for paths."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from data_shards.errors import UserError
from spe_dist.recipe import checked_config, config_values

C = TypeVar("C")

_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray's job manager for the entry point


def is_submitted_job() -> bool:
    """True in the process that `ray job submit` started on the cluster."""
    config = json.loads(os.environ.get(_JOB_CONFIG) or "{}")
    return "job_submission_id" in config.get("metadata", {})


def absolute_path(path: str, setting: str) -> str:
    """A path as ranks need it, which start in other folders than this process.

    Args:
        path: as the person gave it.
        setting: its name, for the error.

    Raises:
        UserError: it is relative and this is a submitted job, whose working folder is a copy.
    """
    if Path(path).is_absolute():
        return path
    if is_submitted_job():
        raise UserError(
            f"{setting} is {path!r}, a relative path: a submitted job runs in a copy of the working folder "
            "that is thrown away, so give an absolute path that every node can reach"
        )
    return str(Path(path).absolute())


def with_absolute_paths(config: C, *, paths: Sequence[str], names: Sequence[str] = ()) -> C:
    """The same configuration with absolute paths, resolved here: ranks and seeds may start in other folders.

    Args:
        config: any.
        paths: dotted names of settings that are paths or, left as they are, URLs.
        names: those that may be names on the hub as well; a folder that is there is meant.

    Raises:
        UserError: a path is relative and this is a submitted job, whose working folder is a copy.
    """
    values = config_values(config)
    for setting in (*paths, *names):
        *sections, name = setting.split(".")
        place = values
        for section in sections:
            place = place[section]
        value = place[name]
        if value and "://" not in value and (setting in paths or Path(value).exists()):
            place[name] = absolute_path(value, setting)
    return checked_config(type(config), values, source="launcher")
