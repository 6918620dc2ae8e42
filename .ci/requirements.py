"""The lock files, the floors and what is outdated, all computed from `pyproject.toml` by uv.

`.ci/locks/` holds every package that an environment gets, with the hashes of all its files, for Python 3.11 to 3.14 on
any system that PyPI has files for: `run.txt` for a run, `dev.txt` for tests and checks besides, `tools.txt` for this
script and its like. They are installed without dependencies, as they are complete; `pip check` says whether they were.
Torch comes in two kinds under one version: PyPI's for Linux needs the CUDA libraries, a CPU build does not. So it is in
a file of its own, `torch.txt`: the kind that pip finds is downloaded first, as with hashes pip would prefer files whose
link states one, and its hash is checked then. The libraries are in `cuda.txt`, which is installed only where that torch
asks for them.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / ".ci" / "locks"
EXTRAS = {"run": ("train", "plots", "serve"), "dev": ("train", "plots", "serve", "test", "dev")}
UNIVERSAL = ("--universal", "--python-version=3.11", "--generate-hashes")

APART = (LOCKS / "torch.txt", LOCKS / "cuda.txt")
_TORCH = re.compile(r"torch==")
_CUDA = re.compile(r"(nvidia|cuda)-(?!cuda-(cuobjdump|nvdisasm)\b)|triton\b")  # all but two small tools of the tests
_PINNED = re.compile(r"^([a-z0-9-]+)(?:\[.*\])?==(\S+)")
# PyTorch's own CPU build for Linux x86_64 and Python 3.11, which is no file of PyPI.
_CPU_BUILDS = {"2.13.0": ("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",)}


def lock(*upgrade: str) -> None:
    """Write the lock files anew; pins stay where they still fit, unless told to upgrade."""
    LOCKS.mkdir(exist_ok=True)
    for name in ("dev", "run"):  # what both have, both have in the same version
        path = LOCKS / f"{name}.txt"
        same = () if name == "dev" else (f"--constraints={LOCKS / 'dev.txt'}",)
        compiled = _compile(EXTRAS[name], *UNIVERSAL, *same, *upgrade, kept=(path, *APART))
        for apart, mark in zip(APART, (_TORCH, _CUDA), strict=True):
            apart.write_text("".join(_with_cpu_build(entry) for entry in compiled if mark.match(entry)))
        path.write_text("".join(entry for entry in compiled if not (_TORCH.match(entry) or _CUDA.match(entry))))
    tools = LOCKS / "tools.txt"
    tools.write_text("".join(_compile((), *UNIVERSAL, *upgrade, kept=(tools,), group="tools")))


def floors(torch: str | None) -> None:
    """Print the lowest version of each direct dependency that `pyproject.toml` admits, and what they need.

    Torch is the locked one unless another is given: at PyPI an older one is a download of several gigabytes.
    """
    (torch,) = [torch] if torch else _versions((LOCKS / "torch.txt").read_text())["torch"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as override:
        override.write(f"torch=={torch}\n")
        override.flush()
        lowest = _compile(
            ("train", "test"), "--resolution=lowest-direct", "--no-annotate", f"--overrides={override.name}"
        )
    print("".join(entry for entry in lowest if not _CUDA.match(entry)), end="")


def outdated() -> None:
    """Print each locked package of which there is a newer release that all others admit."""
    locked = _versions("".join((LOCKS / f"{name}.txt").read_text() for name in ("dev", "torch", "cuda")))
    newest = _versions("".join(_compile(EXTRAS["dev"], *UNIVERSAL, "--upgrade")))
    newer = [
        f"{name} {' and '.join(versions)} -> {' and '.join(newest[name])}"
        for name, versions in locked.items()
        if newest.get(name, versions) != versions
    ]
    print(f"{datetime.date.today()}: {len(newer)} locked packages have a newer release", *newer, sep="\n  ")


def audit() -> None:
    """Ask PyPI for advisories about all locked packages; exit status 1 if there are any.

    A package that PyPI says nothing about counts as not asked about: pip-audit would call it clean.
    """
    for name in ("dev", "tools", "torch", "cuda"):
        command = ["pip-audit", "--requirement", f"{LOCKS / name}.txt", "--disable-pip", "--format=json"]
        done = subprocess.run(command, capture_output=True, text=True)
        try:
            packages = json.loads(done.stdout)["dependencies"]
        except ValueError:
            packages = []
        asked = [package for package in packages if "skip_reason" not in package]
        if not asked:
            reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            print(f"audit skipped: PyPI's service of advisories cannot be reached from here ({reason})")
            return
        print(f"{datetime.date.today()}: .ci/locks/{name}.txt: asked about {len(asked)} of {len(packages)} packages")
        found = [
            f"{package['name']} {package['version']}: {advisory['id']}, fixed in {', '.join(advisory['fix_versions'])}"
            for package in asked
            for advisory in package["vulns"]
        ]
        if found:
            sys.exit("\n".join(found))


def cuda() -> None:
    """Print the file with the CUDA libraries if the torch of this environment asks for them and does not have them."""
    from packaging.requirements import Requirement  # of run.txt; other actions run without

    needed = [r for r in map(Requirement, metadata.requires("torch") or ()) if _CUDA.match(r.name)]
    applying = [r for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    if not all(any(map(r.specifier.contains, _installed(r.name))) for r in applying):
        print(LOCKS / "cuda.txt")


def _compile(
    extras: tuple[str, ...], *options: str, kept: tuple[Path, ...] = (), group: str | None = None
) -> list[str]:
    """The entries of a compiled file, each with its hashes and who asks for it."""
    what = [f"--group={group}"] if group else ["pyproject.toml", *(f"--extra={extra}" for extra in extras)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.txt")
        if kept:
            out.write_text("".join(path.read_text() for path in kept if path.exists()))
        command = ["uv", "pip", "compile", *what, *options, "--no-header", "--quiet", "--output-file", str(out)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return re.split(r"^(?=[a-z0-9])", out.read_text(), flags=re.MULTILINE)[1:]


def _with_cpu_build(entry: str) -> str:
    name, version = next(_pins(entry))
    hashes = _CPU_BUILDS.get(version, ()) if name == "torch" else ()
    first, rest = entry.split("\n", 1)
    new = (f"    --hash=sha256:{digest} \\\n" for digest in hashes if digest not in rest)
    return "\n".join([first, "".join(new) + rest])


def _installed(name: str) -> list[str]:
    try:
        return [metadata.version(name)]
    except metadata.PackageNotFoundError:
        return []


def _versions(text: str) -> dict[str, list[str]]:
    """The versions of each package: some have one for older Pythons and one for newer ones."""
    versions: dict[str, list[str]] = {}
    for name, version in _pins(text):
        versions.setdefault(name, []).append(version)
    return versions


def _pins(text: str) -> Iterator[tuple[str, str]]:
    return (match.groups() for line in text.splitlines() if (match := _PINNED.match(line)))


def main() -> None:
    """Do what the first argument says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("lock", help="write .ci/locks/ anew").add_argument("--upgrade", action="store_true")
    actions.add_parser("floors", help="the lowest versions").add_argument("--torch")
    actions.add_parser("outdated", help="locked packages with a newer release")
    actions.add_parser("audit", help="known advisories about locked packages")
    actions.add_parser("cuda", help="the lock file of CUDA libraries, where they are needed")
    given = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    match given.action:
        case "lock":
            lock(*["--upgrade"] * given.upgrade)
        case "floors":
            floors(given.torch)
        case "outdated":
            outdated()
        case "audit":
            audit()
        case "cuda":
            cuda()


if __name__ == "__main__":
    main()
