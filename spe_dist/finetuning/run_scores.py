"""The scores at the end of a fine-tuning: of all seeds that a run has, on test and on dev."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from spe_dist.finetuning.folder import DEV
from spe_dist.finetuning.predictions import FOLDER, read_run
from spe_dist.finetuning.score_report import overview_text, write_scores
from spe_dist.finetuning.scored_run import score_run

SCORES = "scores"


def report_run(run: Path) -> str:
    """Write RUN/scores and RUN/dev/scores.

    Args:
        run: folder of a fine-tuning, of which at least one seed has come to its end.

    Returns:
        What to print: the tables of test, or of dev if there is no test data.

    Raises:
        UserError: seeds predicted different data, or the folder cannot be written.
    """
    name = run.resolve().name
    lines: list[str] = []
    for part, folder in (("test", run), (DEV, run / DEV)):
        if not (folder / FOLDER).is_dir():
            continue
        scored = score_run(replace(read_run(folder), name=f"{name}, {part}"))
        text, files = write_scores(folder / SCORES, [scored])
        lines.append(overview_text(scored) if lines else text)
        lines.append(f"({', '.join(files)} in {folder / SCORES})")
    return "\n".join(lines)
