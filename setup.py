"""The names under which a wheel installs the folders of this repository; all else is in pyproject.toml.

`launcher`, `cluster` and `data_shards` are good names for folders, and bad ones in a site-packages that others share.
So a wheel has them as `spe_dist_launcher` and so on, with the imports of its copies rewritten. A checkout, also one
that is installed as editable, keeps the short names (docs/decisions.md#dependencies).
"""

import ast
import re
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PREFIX, FOLDERS = "spe_dist_", ("launcher", "cluster", "data_shards")
_MODULE = re.compile(rf"({'|'.join(FOLDERS)})(\.\w+)+")
_IN_SCRIPTS = re.compile(rf"(?<=-m )({'|'.join(FOLDERS)})(?=\.)|(?<![\w./])({'|'.join(FOLDERS)})(?=/\w+\.py)")


class Renamed(Distribution):
    """With the names of a wheel, unless it is an editable one."""

    def parse_config_files(self, *args, **kwargs):
        """Read pyproject.toml, then rename."""
        super().parse_config_files(*args, **kwargs)
        if "editable_wheel" in sys.argv or not self.packages:
            return
        self.packages = [_renamed(package) for package in self.packages]
        self.package_data = {_renamed(package): files for package, files in self.package_data.items()}
        self.package_dir = {PREFIX + folder: folder for folder in FOLDERS}


class Rewritten(build_py):
    """Files with the imports of a wheel, unless it is an editable one."""

    def copy_file(self, infile, outfile, *args, **kwargs):
        """Copy, then rewrite what names a module."""
        copied = super().copy_file(infile, outfile, *args, **kwargs)
        rewrite = {".py": rewritten, ".sbatch": rewritten_script}.get(Path(outfile).suffix)
        if rewrite and not self.editable_mode and "editable_wheel" not in sys.argv:
            Path(outfile).write_text(rewrite(Path(infile).read_text(encoding="utf-8")), encoding="utf-8")
        return copied


def rewritten(source: str) -> str:
    """Python with the names of a wheel in its imports, and in strings that are a module's name and nothing else.

    Raises:
        ValueError: an import binds a short name, of which any later use would have to be found.
    """
    lines = source.encode().splitlines(keepends=True)  # as Python counts them: those of text end at form feeds, too
    places = []  # line and byte column where the prefix goes
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").partition(".")[0] in FOLDERS:
            places.append((node.lineno, node.col_offset + len("from ")))
        elif isinstance(node, ast.Import) and any(one.name.partition(".")[0] in FOLDERS for one in node.names):
            raise ValueError(f"line {node.lineno}: write `from … import …`: a wheel renames this package")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _names_module(node.value):
            places.append((node.lineno, node.col_offset + 1))
    for line, column in sorted(places, reverse=True):
        text = lines[line - 1]
        lines[line - 1] = text[:column] + PREFIX.encode() + text[column:]
    return b"".join(lines).decode()


def rewritten_script(source: str) -> str:
    """A shell script with the names of a wheel after `-m` and in paths of programs."""
    return _IN_SCRIPTS.sub(lambda found: PREFIX + found[0], source)


def _names_module(text: str) -> bool:
    """Settings have dots as well (cluster.workers): a module is one that is there."""
    if not _MODULE.fullmatch(text):
        return False
    path = ROOT.joinpath(*text.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def _renamed(package: str) -> str:
    return PREFIX + package if package.partition(".")[0] in FOLDERS else package


if __name__ == "__main__":
    setup(distclass=Renamed, cmdclass={"build_py": Rewritten})
