import re
import shutil
import subprocess
from pathlib import Path

import pytest

import launcher
from cluster.slurm.batch_script import TEMPLATE
from data_shards.errors import UserError
from launcher.pretrain import main as pretrain
from launcher.slurm import main

RECIPE = str(Path(launcher.__file__).with_name("recipes") / "spe_wiki.yaml")


def rendered(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(["--config", RECIPE, *arguments])
    return capsys.readouterr().out


def options(script: str) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", script, flags=re.MULTILINE))


def test_resources_of_a_node_follow_from_the_recipe(capsys):
    """8 workers on 2 nodes; each has 1 thread and 2 loader processes."""
    script = rendered(capsys, "--nodes", "2", "--time", "1:00:00", "--stop-before", "120")
    assert options(script) == options(TEMPLATE.read_text()) | {
        "job-name": "spe_wiki",
        "nodes": "2",
        "cpus-per-task": str(4 * (1 + 2)),
        "gpus-per-node": "4",
        "time": "1:00:00",
        "signal": "B:USR1@120",
    }
    on_cpus = rendered(capsys, "--nodes", "4", "--cluster.gpus_per_worker", "0", "--cluster.cpus-per-worker", "5")
    assert "gpus-per-node" not in options(on_cpus) and options(on_cpus)["cpus-per-task"] == str(2 * (5 + 2))


def test_options_of_sbatch_are_replaced_or_added_before_the_first_command(capsys):
    script = rendered(capsys, "--sbatch", "account=nlp", "exclusive", "output=/logs/%j.log")
    assert options(script) | {"account": "nlp", "exclusive": "", "output": "/logs/%j.log"} == options(script)
    assert script.index("#SBATCH --account=nlp") < script.index("set -euo pipefail")  # later ones would not count


def test_only_settings_differ_from_the_script_in_the_repository(capsys):
    script, template = rendered(capsys).splitlines(), TEMPLATE.read_text().splitlines()
    added = [line for line in script if line not in template]
    assert [line.partition("=")[0].partition(" ")[0] for line in added] == 3 * ["#SBATCH"] + [
        "checkout",
        "programs",
        "arguments",
    ]


def test_the_script_starts_the_run_that_was_asked_for_with_absolute_folders(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = rendered(capsys, "--run.name", "it's mine", "--encoder.name-or-path", "null", "--data.shards", "here")
    definitions = "\n".join(line for line in script.splitlines() if line.startswith("arguments="))
    command = f'set -- --train.steps 50000\n{definitions}\nprintf "%s\\0" "${{arguments[@]}}"'
    arguments = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout.split("\0")
    monkeypatch.chdir("/")
    pretrain([*arguments[:-1], "--print-run-folder"])
    assert capsys.readouterr().out == f"{tmp_path}/runs/it's mine\n"
    assert f"--data.shards={tmp_path}/here" in arguments and arguments[-3:-1] == ["--train.steps", "50000"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nodes", "3"], "8 workers cannot be split evenly among 3 nodes"),
        (["--config", "/none.yaml"], "cannot read"),
    ],
)
def test_what_cannot_run_is_refused(arguments, words, tmp_path):
    with pytest.raises(UserError, match=words):
        main([*(["--config", RECIPE] if "--config" not in arguments else []), *arguments, "--out", str(tmp_path / "x")])
    assert not (tmp_path / "x").exists()


def test_an_unknown_setting_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"unknown argument --train\.stepz"):
        main(["--config", RECIPE, "--train.stepz", "3", "--out", str(tmp_path / "x")])
    assert not (tmp_path / "x").exists()


def test_the_script_is_good_bash(capsys, tmp_path):
    script = tmp_path / "script.sbatch"
    main(["--config", RECIPE, "--out", str(script)])
    checker = ["shellcheck"] if shutil.which("shellcheck") else ["bash", "-n"]
    done = subprocess.run([*checker, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
