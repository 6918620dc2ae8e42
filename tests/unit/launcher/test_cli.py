from importlib.util import find_spec

import pytest

from data_shards.errors import UserError
from launcher.cli import COMMANDS, USAGE, dispatch


def test_every_command_has_a_module_and_a_line_of_the_usage() -> None:
    assert all(find_spec(module) for module in COMMANDS.values())
    listed = [line.split()[0] for line in USAGE.splitlines() if line.startswith("  ") and not line.startswith("   ")]
    assert sorted(listed) == sorted(COMMANDS)


def test_other_words_are_refused() -> None:
    with pytest.raises(UserError, match="no command 'trian'; the commands are: shards, "):
        dispatch(["trian"])
