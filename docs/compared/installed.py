"""Size of what packages install beside torch and what torch needs (docs/compared.md).

PYTHON docs/compared/installed.py 'gliner2[local]'      with the interpreter that has them
"""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distribution
from importlib.util import find_spec

from packaging.requirements import Requirement


def main() -> None:
    """Print megabytes and the number of packages."""
    beside = needed("torch") if find_spec("torch") else {}
    own = {name: one for argument in sys.argv[1:] for name, one in needed(argument).items() if name not in beside}
    print(f"{sum(map(size, own.values())) / 1e6:,.0f} MB in {len(own)} packages")


def needed(package: str) -> dict[str, Distribution]:
    """A package and all that it requires here, by name."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(package)]
    while waiting:
        one = waiting.pop()
        name, extras = one.name.lower().replace("_", "-"), frozenset(one.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found[name] = distribution(name)
        for requirement in map(Requirement, found[name].requires or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
                waiting.append(requirement)
    return found


def size(package: Distribution) -> int:
    """Bytes of its files."""
    places = (file.locate() for file in package.files or ())
    return sum(place.stat().st_size for place in places if place.is_file())


if __name__ == "__main__":
    main()
