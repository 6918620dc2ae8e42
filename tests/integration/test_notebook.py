"""The notebook of docs/notebooks, cell by cell, as Jupyter would run it."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.integration.command import run
from tests.unit.spe_dist.tiny_run import ROOT

SHELL = "%%bash -e\n"


@pytest.mark.ray
def test_from_text_to_a_graph(tmp_path):
    notebook = json.loads((ROOT / "docs/notebooks/text_to_graph.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    program = ["import subprocess"]
    for cell in cells:
        body = cell.removeprefix(SHELL)
        program.append(cell if body == cell else f"subprocess.run(['bash', '-e', '-c', {body!r}], check=True)")

    done = run(
        *(sys.executable, "-c", "\n".join(program)),
        cwd=tmp_path,
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        MPLBACKEND="module://matplotlib_inline.backend_inline",  # what Jupyter sets, installed here or not
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"^relation_f1 +[1-9]", done.stdout, re.MULTILINE), done.stdout  # it has learned something
    nodes, edges = map(int, re.search(r"^(\d+) nodes, (\d+) edges$", done.stdout, re.MULTILINE).groups())
    assert nodes > 300, done.stdout
    assert edges > 50, done.stdout
    assert "<html" in (tmp_path / "found.html").read_text(encoding="utf-8")
