"""`docs/faults.md`, from what was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = (
    ("fault", "fault", ""),
    ("tried", "tried", "d"),
    ("recovered", "recovered", "d"),
    ("steps_lost_median", "steps made again, median", ".0f"),
    ("steps_lost_max", "max", ".0f"),
    ("batches_lost_or_repeated", "batches lost or repeated", "d"),
    ("seconds_median", "seconds to the next step, median", ".1f"),
    ("seconds_max", "max", ".1f"),
    ("own_seconds_median", "our own part, median", ".1f"),
    ("own_seconds_max", "max", ".1f"),
)
_TEXT = """# Faults

Every fault below was injected into real runs in real processes, by `make faults`; the figures are in
[data/faults.json](data/faults.json). Every run with a fault was compared with an undisturbed run: the same steps, each
once, with the same records, masks and queue, the same losses (to 1e-4, because the number of ranks may change), and a
last checkpoint in which every byte is as it was written.

{table}
*Recovered*: the run reached the same end. If only a person can fix the fault (a truncated shard, a lost Ray head), the
command must end with one line, and the same command must resume after the fix. *Steps made again*: steps since the last
checkpoint (one every three steps). *Seconds to the next step*: wall-clock time from the fault to the next optimizer
step, including detection, ending the remaining processes, starting new ones, importing torch and DeepSpeed, and our own
part: connecting the ranks, the lock, building model and engine, selecting, verifying and reading the checkpoint, and
the step itself. If a person has to act, the time counts from that action. An empty cell does not apply.
{said}
## Machine

{where}
"""


def page(results: Mapping[str, Mapping[str, Any]], order: Sequence[str]) -> str:
    """The page.

    Args:
        results: by the fault's key: `rows` of the table, `where` they were tried, `seconds`.
        order: of the keys.
    """
    tried = [results[key] for key in order if key in results]
    rows = [row for result in tried for row in result["rows"]]
    lines = [
        "|" + "|".join(f" {title} " for _, title, _ in _COLUMNS) + "|",
        "|---" + "|---:" * (len(_COLUMNS) - 1) + "|",
    ]
    lines += ["|" + "|".join(f" {_cell(row.get(name), how)} " for name, _, how in _COLUMNS) + "|" for row in rows]
    said = [f"* {row['fault']}: `{row['said']}`" for row in rows if row.get("said")]
    said_text = "\n## Messages when a command cannot continue\n\n" + "\n".join(said) + "\n" if said else ""
    where = "\n".join(dict.fromkeys(f"* {result['where']}" for result in tried))
    return _TEXT.format(table="\n".join(lines) + "\n", said=said_text, where=where)


def _cell(value: Any, how: str) -> str:
    return "" if value is None else format(value, how)
