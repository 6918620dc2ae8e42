"""Whether this process is the entry point of `ray job submit`."""

from __future__ import annotations

import json
import os

_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray's job manager for the entry point


def is_submitted_job() -> bool:
    """True in the process that `ray job submit` started on the cluster."""
    config = json.loads(os.environ.get(_JOB_CONFIG) or "{}")
    return "job_submission_id" in config.get("metadata", {})
