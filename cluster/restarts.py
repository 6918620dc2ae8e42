"""Whether a run that failed may go on by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.train import UserCallback

from data_shards.counted import counted
from data_shards.errors import UserError


class Restarts:
    """Counts failures that follow each other without progress. PURE.

    What a person must fix ends a run at once. Anything else (a machine lost, a rank killed or hung, a loss that is not
    finite) may pass, so the run goes on from its last checkpoint; but not for ever from the same one.

    Args:
        limit: failures in a row, without a new checkpoint between them, after which the run ends.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._step: int | None = None
        self._failures: list[str] = []

    def judge(self, failure: BaseException, step: int) -> UserError | None:
        """What ends the run, or None if it goes on.

        Args:
            failure: failure of a rank.
            step: step of the newest checkpoint, 0 if there is none.
        """
        mistake = user_error_in(failure)
        if mistake is not None and not mistake.may_pass:
            return mistake
        if step != self._step:
            self._step, self._failures = step, []
        said = str(mistake) if mistake else (str(failure).strip().splitlines() or [repr(failure)])[-1]
        repeated = mistake is not None and said in self._failures
        self._failures.append(said)
        if repeated:
            return mistake
        if len(self._failures) > self._limit:
            return UserError(
                f"{counted(len(self._failures), 'failure')} in a row without a new checkpoint "
                f"(the last is of step {step}): {said}"
            )
        return None


class RestartPolicy(UserCallback):
    """Lets Ray Train restart a run after a failure, or ends it; lives in Ray's controller of the run."""

    def __init__(self, restarts: Restarts, newest_step: Callable[[], int]) -> None:
        self._restarts = restarts
        self._newest_step = newest_step

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Called by Ray with what ranks raised, or how they died; an exception in here ends the run.

        Raises:
            UserError: the run shall not go on.
        """
        failure = next((e for e in worker_exceptions.values() if user_error_in(e)), None)
        verdict = self._restarts.judge(failure or next(iter(worker_exceptions.values())), self._newest_step())
        if verdict is not None:
            raise verdict


def user_error_in(failure: BaseException | None) -> UserError | None:
    """The UserError that a rank raised, out of what Ray wrapped around it."""
    while failure is not None:
        if isinstance(failure, UserError):
            return failure
        failure = getattr(failure, "cause", None) or getattr(failure, "controller_failure", None) or failure.__cause__
    return None
