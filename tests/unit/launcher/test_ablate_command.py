"""What `spe ablate` refuses before it starts anything."""

import pytest

from data_shards.errors import UserError
from launcher.ablate import main


def test_text_cut_by_the_rules_of_another_language_is_refused_before_anything_runs(shards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [f"--{name}={shards / 'shards' / 'manifest.json'}" for name in ("train", "dev", "test")]  # not read yet
    with pytest.raises(UserError, match=r"rules of en, .*\.language is de.*--finetune\.start\.language en"):
        main(["--shards", str(shards / "shards"), *files, "--finetune.start.language", "de"])
    assert list(tmp_path.iterdir()) == []
