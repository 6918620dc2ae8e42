"""A file split at random into train, dev and test: by article where it is SQuAD's, else by item or line.

Items of one `document` or `context` stay together: a model must not be tested on what it has learned from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from data_shards.annotated.json_objects import Item, read_items
from data_shards.annotated.read import kind_of_no_file
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically

_SPLIT = 10  # keeps these random numbers apart from others of the same seed


def split_file(path: Path, folder: Path, sizes: Mapping[str, float], seed: int) -> dict[Path, int]:
    """Write the parts of a file.

    Args:
        path: the file, in JSON or JSON lines.
        folder: to write into: NAME.json if the file is SQuAD's, else NAME.jsonl.
        sizes: of each part by its name: a number of groups or, below 1, a share of them. A group is an article, the
            items of one document or context, or an item that names none. Shares that add up to 1 leave none out.
        seed: the same one gives the same parts.

    Returns:
        Groups in each file.

    Raises:
        UserError: the file cannot be read or is too small, or a part cannot be written.
    """
    if kind := kind_of_no_file(path):
        raise UserError(f"{path} is {kind}: split what spe data convert {path} all.jsonl makes of it")
    items = list(read_items(path))
    is_squad = len(items) == 1 and isinstance(items[0].value.get("data"), list)
    header = items.pop(0).value if items and "header" in items[0].value else None  # MRQA's first line
    groups = [[article] for article in items[0].value["data"]] if is_squad else _by_text(items)
    kind = "articles" if is_squad else "items" if len(groups) == len(items) else "documents or contexts"
    counts = _counts(sizes, len(groups), f"{path} has {len(groups):,} {kind}")
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((_SPLIT, seed))))
    order, written = generator.permutation(len(groups)), {}
    for name, count in counts.items():
        chosen, order = [item for number in sorted(order[:count]) for item in groups[number]], order[count:]
        target = folder / f"{name}{'.json' if is_squad else '.jsonl'}"
        if target.exists() and path.exists() and target.samefile(path):
            raise UserError(f"{target} is the input file: name another folder")
        objects = [items[0].value | {"data": chosen}] if is_squad else [*([] if header is None else [header]), *chosen]
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(target, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects).encode())
        written[target] = count
    return written


def _by_text(items: Iterable[Item]) -> list[list[Any]]:
    """Items in groups: those of one document or context, and each that names none."""
    groups: dict[tuple[str, str], list[Any]] = {}
    for number, item in enumerate(items):
        name = next((name for name in ("document", "context") if item.value.get(name) is not None), None)
        text = number if name is None else item.value[name]
        if not isinstance(text, str | int) or isinstance(text, bool):
            found = json.dumps(text)[:40]
            raise UserError(
                f"{item.where}: {name} is {found}: expected a text or a whole number, by which items are kept together"
            )
        groups.setdefault((name or "", str(text)), []).append(item.value)  # a number is the same as its digits
    return list(groups.values())


def _counts(sizes: Mapping[str, float], groups: int, told: str) -> dict[str, int]:
    """How many groups each part gets."""
    for name, size in sizes.items():
        if not 0 <= size < inf or (size >= 1 and size != int(size)):
            raise UserError(f"--{name} {size:g}: give a number of articles or items, or a share of them below 1")
    ends = np.rint(np.cumsum([size if size >= 1 else size * groups for size in sizes.values()])).astype(int)
    counts = dict(zip(sizes, np.diff(ends, prepend=0).tolist(), strict=True))
    for name, size in sizes.items():
        if size > 0 and not counts[name]:
            raise UserError(f"--{name} {size:g}: {told}, and this share of them is less than one: give a larger share")
    counts = {name: count for name, count in counts.items() if count}
    if not counts:
        raise UserError("name the size of a part: --train, --dev or --test")
    if sum(counts.values()) > groups:
        raise UserError(f"{told}, fewer than the {sum(counts.values()):,} of all parts: give smaller parts")
    return counts
