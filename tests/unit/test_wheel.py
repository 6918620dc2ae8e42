"""The wheel: names that nobody else has, the same modules under them, and nothing that asks for the short names."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import setup
import spe_dist
from tests.unit.spe_dist.tiny_run import ROOT

pytestmark = pytest.mark.any_version

SHORT = ("launcher", "cluster", "data_shards")
DATA = {
    "launcher": ["recipes/*.yaml"],
    "cluster": ["slurm/*.sbatch"],
    "data_shards": ["debug_vocab.txt"],
    "spe_dist": ["kernels/csrc/*", "kernels/prebuilt/*.so", "extraction/predict/page.html"],
}


def _built(kind: str, source: Path) -> Path:
    """As a builder that follows PEP 517 asks for it."""
    program = f"from setuptools.build_meta import build_{kind}; build_{kind}('dist')"
    subprocess.run([sys.executable, "-c", program], cwd=source, check=True, capture_output=True)
    (built,) = (source / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder like site-packages, with the wheel alone, which is built of the source distribution alone."""
    source, into = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    unpacked = tmp_path_factory.mktemp("unpacked")
    for name in (*SHORT, "spe_dist"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    built = _built("sdist", source)
    with tarfile.open(built) as archive:
        archive.extractall(unpacked, filter="data")
    with zipfile.ZipFile(_built("wheel", unpacked / built.name.removesuffix(".tar.gz"))) as archive:
        archive.extractall(into)
    return into


def test_its_packages_collide_with_nobodys_and_its_files_are_those_of_the_repository(installed):
    (metadata,) = installed.glob("*.dist-info")
    names = ["spe_dist", *(f"spe_dist_{name}" for name in sorted(SHORT))]
    assert (metadata / "top_level.txt").read_text().split() == sorted(names)
    assert sorted(path.name for path in installed.iterdir() if path != metadata) == sorted(names)
    for name in ("spe_dist", *SHORT):
        there = installed / (name if name == "spe_dist" else f"spe_dist_{name}")
        of_python = {path.relative_to(ROOT / name) for path in (ROOT / name).rglob("*.py")}
        others = {path.relative_to(ROOT / name) for kind in DATA.get(name, ()) for path in (ROOT / name).glob(kind)}
        found = {path.relative_to(there) for path in there.rglob("*") if path.is_file()}
        assert found == of_python | others
    assert (installed / "spe_dist_launcher/recipes/debug.yaml").is_file()
    script = (installed / "spe_dist_cluster/slurm/pretrain.sbatch").read_text()
    assert "python spe_dist_launcher/pretrain.py" in script and "-m spe_dist_cluster.slurm.wait_for_nodes" in script


def test_no_import_and_no_name_of_a_module_is_short(installed):
    """Each line is that of the repository but for prefixes, so that tracebacks fit; settings keep their names."""
    prefixes = 0
    for path in installed.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        original = (ROOT / str(path.relative_to(installed)).removeprefix("spe_dist_")).read_text(encoding="utf-8")
        assert re.sub(rf"\bspe_dist_({'|'.join(SHORT)})\b", r"\1", source) == original
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert node.module.partition(".")[0] not in SHORT, path
                prefixes += node.module.startswith("spe_dist_")
    assert prefixes > 500


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f():\f\n    from data_shards.errors import UserError  # é\n", "spe_dist_data_shards.errors import"),
        ('é = ["-m", "launcher.cli"]\n', '["-m", "spe_dist_launcher.cli"]'),
        ('key = "cluster.workers", "launcher", "cluster"\n', 'key = "cluster.workers", "launcher", "cluster"'),
        (
            '"""See launcher.cli."""\nfrom .x import y\nfrom spe_dist.config import z\n',
            '"""See launcher.cli."""\nfrom .x',
        ),
    ],
)
def test_what_is_rewritten_and_what_is_not(source, expected):
    written = setup.rewritten(source)
    assert expected in written and written.count("spe_dist_") <= 1


def test_an_import_that_binds_a_short_name_ends_the_build():
    with pytest.raises(ValueError, match=r"line 2: write `from … import …`"):
        setup.rewritten("x = 1\nimport cluster.waiting\n")


def test_the_notebook_names_no_module_that_a_wheel_has_not(installed):
    notebook = json.loads((ROOT / "docs/notebooks/text_to_graph.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    programs = [cell for cell in cells if not cell.startswith("%%")]
    programs += [one for cell in cells if cell.startswith("%%") for one in re.findall(r'python -c "([^"]*)"', cell)]
    modules = set()
    for node in (node for program in programs for node in ast.walk(ast.parse(program))):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                modules.add(module)
                assert module != "spe_dist" or {one.name for one in names} <= set(spe_dist.__all__)
            case ast.Import(names=names):
                modules |= {one.name for one in names}
            case ast.Constant(value=str(text)):
                assert text.partition(".")[0] not in SHORT, text
    own = {name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names}
    assert own and all((installed / name.replace(".", "/")).exists() for name in own), own


def test_the_program_runs_from_the_wheel_alone(installed, tmp_path):
    """Where other packages have the short names."""
    for name in SHORT:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('of somebody else')")
    (tmp_path / "data.json").write_text(json.dumps({"tokens": ["Ann"], "entities": [], "relations": []}) + "\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(installed)])}

    def spe(*arguments):
        command = [sys.executable, "-m", "spe_dist", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "pieces" in spe("data", "check", "data.json", "--tokenizer", "debug")  # a file of the wheel
    assert "lanes" in spe("pretrain", "--config", "debug", "--help")  # the recipe is found
