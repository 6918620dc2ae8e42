"""`spe probe` as a person types it."""

import json

import pytest

from data_shards.errors import UserError
from launcher.probe import main
from spe_dist.export.export_run import export_run
from tests.unit.spe_dist.tiny_run import train_tiny_run, write_dataset


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    write_dataset(folder / "shards", sentences=3000)
    return train_tiny_run(folder, train={"steps": 1})


def probe(encoder, run, *arguments):
    shards = str(run.parent.parent / "shards")
    main([str(encoder), "--shards", shards, "--questions", "20", "--candidates", "4", *arguments])


def test_a_run_and_its_export_are_asked_the_same_questions(run, tmp_path, capsys):
    probe(run, run, "--out", str(tmp_path / "run"))
    out = capsys.readouterr().out
    probe(export_run(run), run, "--out", str(tmp_path / "export"), "--json")
    printed = capsys.readouterr()
    assert "warning:" in out and "is what the run was trained on" in out
    of_run, of_export = (json.loads((tmp_path / kind / "probe.json").read_text()) for kind in ("run", "export"))
    assert json.loads(printed.out) == of_export and (tmp_path / "export" / "probe.txt").read_text() in printed.err
    assert of_run["chance"] == 0.25 and of_run["held_out"] is False and of_export["held_out"] is None
    assert list(of_run["results"].values()) == list(of_export["results"].values())
    trained, untrained, means = of_run["results"].values()
    assert {rows[0]["stratum"] for rows in (trained, untrained, means)} == {"all"}
    assert trained != untrained
    table = (tmp_path / "run" / "probe.txt").read_text()
    assert table in out and "chance: accuracy 25.0%" in table


def test_an_encoder_is_asked_with_new_heads(run, capsys):
    probe(export_encoder(run), run)
    assert "(heads new): 20 questions of 4 candidates" in capsys.readouterr().out


def export_encoder(run):
    """A Hugging Face encoder without what spe_dist adds."""
    folder = export_run(run, run.parent / "encoder")
    (folder / "spe_dist.json").unlink()
    return folder


def test_what_cannot_be_asked_is_refused_in_one_line(run, tmp_path):
    shards = str(run.parent.parent / "shards")
    with pytest.raises(UserError, match=r"--questions 5: give at least 20"):
        main([str(run), "--shards", shards, "--questions", "5"])
    with pytest.raises(UserError, match=r"only \d+ of 3,000 sentences have 999 others"):
        main([str(run), "--shards", shards, "--questions", "20", "--candidates", "1000"])
    with pytest.raises(UserError, match=r"cannot load .*nowhere"):
        main([str(tmp_path / "nowhere"), "--shards", shards])
    without = train_tiny_run(run.parent.parent, run={"name": "without"}, cspo={"weight": 0.0}, train={"steps": 1})
    with pytest.raises(UserError, match=r"was not trained by contrast \(SPE without CSPO\)"):
        main([str(without), "--shards", shards])
