"""The arguments of a command; a mistake in them is one line, as every mistake of a person is.

tyro prints a box of several sections and ends the process. The first section says what is wrong; others hold what may
have been meant, and the command whose `--help` says more.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import Any

import tyro

from data_shards.errors import UserError

_WRONG_ARGUMENTS = 2  # exit status
_CHOICE = re.compile(r"invalid choice '(.*?)' for argument '(.+?)'\. Expected one of \((.*)\)\.")
_REWORDED = (
    (r"Unrecognized options: ([^,]+).*", r"unknown argument \1"),
    (r"Missing value for argument '(.+?)'\..*", r"\1 needs a value"),
    (r"Expected one of \{(.*)\}\.", r"say what to do: \1"),
    (r"Error parsing (.+?): no type matching (.+?) could .* from \['(.*?)'\]\..*", r"\3: not of the form \2"),
    (r"Error parsing (.+?): invalid literal for int.*: '(.*)'", r"\1 \2: not a whole number"),
    (r"Error parsing (.+?): could not convert string to float: '(.*)'", r"\1 \2: not a number"),
    (r"Error parsing (.+)", r"\1"),
)


def parse_arguments(kind: Any, arguments: Sequence[str], *, prog: str, **more: Any) -> Any:
    """What `tyro.cli` makes of some arguments.

    Args:
        kind: a dataclass, or the union of those of subcommands.
        arguments: of the command.
        prog: the command, for its `--help`.
        more: for `tyro.cli`, such as a default.

    Raises:
        UserError: they are not what the command takes.
        SystemExit: `--help` was asked for.
    """
    if {"-h", "--help"} & set(arguments):
        return tyro.cli(kind, args=arguments, prog=prog, **more)
    printed = StringIO()
    try:
        with _unwrapped(), redirect_stderr(printed):
            parsed = tyro.cli(kind, args=arguments, prog=prog, **more)
    except SystemExit as ending:
        if ending.code != _WRONG_ARGUMENTS:
            raise
        raise UserError(one_line(printed.getvalue(), prog)) from None
    sys.stderr.write(printed.getvalue())
    return parsed


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Messages as for a very wide terminal."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def one_line(box: str, prog: str) -> str:
    """What a box of tyro says."""
    sections: list[list[str]] = [[]]
    for row in box.splitlines():
        text = row.strip("│").rstrip() if row.startswith("│") else ""
        if text and not text.strip(" ─"):
            sections.append([])
        elif text.strip():
            sections[-1].append(text)
    (what, *_), help_of = sections, prog
    said = [_what_is_wrong(what)]
    for head, *rest in sections[1:]:
        match head.strip():
            case "Perhaps you meant:":
                said.append(f"did you mean {rest[0].split()[0]}?")
            case "Unrecognized options:":
                said.append(f"unknown argument {rest[0].strip()}")
            case "For full helptext, run:":
                help_of = rest[0].strip().removesuffix(" --help")
            case line if line.startswith("Available subcommands: "):
                said.append(f"there are {line.removeprefix('Available subcommands: ')}")
            case line if line.startswith("For full helptext"):
                help_of = line.split(maxsplit=4)[4].removesuffix(" --help")
    return f"{'; '.join(said)} (`{help_of} --help` says more)"


def _what_is_wrong(rows: Sequence[str]) -> str:
    if rows[0].strip().startswith("Missing from "):  # names are indented less than what they mean
        names = [row.strip() for row in rows[1:] if len(row) - len(row.lstrip()) == 5]
        return f"missing: {', '.join(names)}"
    text = " ".join(row.strip() for row in rows)
    if choice := _CHOICE.fullmatch(text):
        value, name, listed = choice.groups()
        choices = sorted(re.findall(r"'(.+?)'", listed))
        return f"{name} {value}: not one of {', '.join(choices)}"
    for pattern, better in _REWORDED:
        if re.fullmatch(pattern, text):
            return re.sub(pattern, better, text)
    return text
