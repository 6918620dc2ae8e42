"""The arguments of a command; a mistake in them is one line, as every mistake of a person is.

tyro prints a box of several sections and ends the process. The first section says what is wrong; others hold what may
have been meant, and the command whose `--help` says more.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import tyro

from data_shards.errors import UserError

_WRONG_ARGUMENTS = 2  # exit status
_INVALID = re.compile(r"([\w.]+) (\S.*?) \[type=\w+, input_value=(.*?), input_type=\w+\]")  # of pydantic
_UNION = re.compile(r"Error parsing .+?: no type matching (\S+?) could .*? from \['(.*?)'\]")
_KINDS = {"INT": "a whole number", "FLOAT": "a number"}
_CHOICE = re.compile(r"invalid choice '(.*?)' for argument '(.+?)'\. Expected one of \((.*)\)\.")
_REWORDED = (
    (r"Unrecognized options: ([^,]+).*", r"unknown argument \1"),
    (r"Missing value for argument '(.+?)'\..*", r"\1 needs a value"),
    (r"Expected one of \{(.*)\}\.", r"say what to do: \1"),
    (r"Error parsing (.+?): invalid literal for int.*: '(.*)'", r"\1 \2: not a whole number"),
    (r"Error parsing (.+?): could not convert string to float: '(.*)'", r"\1 \2: not a number"),
    (r"Error parsing (.+)", r"\1"),
)


def parse_arguments(kind: Any, arguments: Sequence[str], *, prog: str, **more: Any) -> Any:
    """What `tyro.cli` makes of some arguments.

    Args:
        kind: a dataclass, or the union of those of subcommands.
        arguments: arguments of the command.
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
        with _unwrapped(), redirect_stderr(printed), redirect_stdout(_Utf8()):
            parsed = tyro.cli(kind, args=arguments, prog=prog, **more)
    except SystemExit as ending:
        if ending.code != _WRONG_ARGUMENTS:
            raise
        raise UserError(one_line(printed.getvalue(), prog)) from None
    sys.stderr.write(printed.getvalue())
    return parsed


def refuse(command: Any, names: Sequence[str], reason: str) -> None:
    """Raise a UserError if one of these settings of a command is given."""
    for name in names:
        if getattr(command, name) != getattr(type(command), name):
            raise UserError(f"--{name.replace('_', '-')} {reason}")


class _Utf8(StringIO):
    """A standard output whose encoding lets tyro draw its boxes with the characters that are looked for here."""

    encoding = "utf-8"


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
    what, *others = _sections(box)
    heads = {head.strip().rstrip(":"): rest for head, *rest in others}
    option = heads.get("Argument helptext", ["value"])[0].split()[0]
    said = [_what_is_wrong(what, option)]
    if meant := heads.get("Perhaps you meant"):
        said.append(f"did you mean {meant[0].split()[0]}?")
    if unknown := heads.get("Unrecognized options"):
        said.append(f"unknown argument {unknown[0].strip()}")
    choices = [head.partition("subcommands: ")[2] for head in heads if head.startswith("Available subcommands: ")]
    said += [f"there are {names}" for names in choices]
    helps = re.findall(r"(?:run|see|run:)\s+(\S.*?) --help", box.replace("│", " "))
    return f"{'; '.join(said)} (`{helps[0] if helps else prog} --help` says more)"


def _sections(box: str) -> list[list[str]]:
    """The rows of a box, cut at its rules."""
    sections: list[list[str]] = [[]]
    for row in box.splitlines():
        text = row.strip("│").rstrip() if row.startswith("│") else ""
        if text and not text.strip(" ─"):
            sections.append([])
        elif text.strip():
            sections[-1].append(text)
    return sections


def _what_is_wrong(rows: Sequence[str], option: str) -> str:
    text = " ".join(row.strip() for row in rows)
    if text.startswith("Missing from "):  # names are indented less than what they mean
        missing = [row.strip() for row in rows[1:] if len(row) - len(row.lstrip()) == 5]
        return f"missing: {', '.join(missing)}"
    if found := _CHOICE.fullmatch(text):
        value, name, listed = found.groups()
        choices = sorted({*re.findall(r"'(.+?)'", listed)} - {"None"})
        return f"{name} {value}: not one of {', '.join(choices)}"
    if found := _UNION.match(text):
        kinds, value = found.groups()
        names = f"{option} " if option.startswith("--") else ""
        return f"{names}{value}: not {_KINDS.get(kinds.removeprefix('{None}|'), kinds)}"
    if "validation error" in text:
        section = text.removeprefix("Error parsing ").partition(":")[0].removeprefix("__tyro-dummy-inner__.")
        names = f"{section}." if section[0].islower() else ""  # else the class of the whole configuration
        said = re.sub(r" For further information visit \S+", "", text.partition(" for ")[2].partition(" ")[2])
        problems = _INVALID.findall(said)
        return "; ".join(f"{names}{name} {value}: {problem.lower()}" for name, problem, value in problems)
    return next((re.sub(p, better, text) for p, better in _REWORDED if re.fullmatch(p, text)), text)
