"""Whether a folder holds an extractor, found out without torch: who has mistyped a path need not wait for it."""

from __future__ import annotations

from pathlib import Path

from data_shards.errors import UserError

DESCRIPTION = "extractor.json"


def check_is_extractor(folder: Path) -> None:
    """Raise a UserError if there is no extractor, naming those that lie where people look first."""
    if (folder / DESCRIPTION).is_file():
        return
    found = sorted(path.parent for kind in ("model", "seed-*/model") for path in folder.glob(f"{kind}/{DESCRIPTION}"))
    if found:
        raise UserError(f"{folder} is not an extractor, did you mean {' or '.join(map(str, found))}?")
    raise UserError(f"{folder} is not an extractor: no {DESCRIPTION} there; make one with: spe finetune")
