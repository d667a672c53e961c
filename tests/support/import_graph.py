"""Who imports whom, read from the sources by AST, ``TYPE_CHECKING`` blocks included.

``python tests/support/import_graph.py [CHECKOUT]`` prints packages, layers, circles of a checkout.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
#: Folders whose files make up the package; all but the first are installed below it.
ROOTS = ("esccs_edge", "training", "export", "calibration")
SIBLINGS = frozenset(ROOTS[1:])


class ImportGraph:
    """The imports of one checkout.

    Attributes:
        files: Paths of all sources, relative to the checkout.
    """

    def __init__(self, checkout: Path = REPOSITORY) -> None:
        self._checkout = checkout
        found = [path for root in ROOTS for path in (checkout / root).rglob("*.py*")]
        found = [path for path in found if path.suffix in (".py", ".pyi")]
        self.files = sorted(path.relative_to(checkout).as_posix() for path in found)
        self._file_of = {module_name(file): file for file in self.files}
        inits = {Path(file).parent for file in self.files if file.endswith("/__init__.py")}
        self._split = {folder.parent for folder in inits} | {Path("esccs_edge")}
        self.tree = cache(self._tree)
        self.imports = cache(self._imports)

    def _tree(self, file: str) -> ast.Module:
        return ast.parse((self._checkout / file).read_text(encoding="utf-8"), file)

    def _imports(self, file: str) -> frozenset[str]:
        """Full names of what a file imports, at any depth; members of a package as members."""
        module = module_name(file)
        package = module if file.endswith("/__init__.py") else module.rpartition(".")[0]
        names: set[str] = set()
        for node in ast.walk(self.tree(file)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= set(self._imported_from(node, package.split(".")))
        return frozenset(names)

    def _imported_from(self, node: ast.ImportFrom, package: list[str]) -> Iterator[str]:
        base = package[: len(package) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        found = self._file_of.get(module, "")
        for alias in node.names:
            member = f"{module}.{alias.name}"
            yield member if not found or member in self._file_of else module

    def third_party(self, file: str) -> set[str]:
        """Packages outside the standard library that a file imports."""
        tops = {name.split(".")[0] for name in self.imports(file)}
        standard = {*sys.stdlib_module_names, "tomllib", "tomli"}  # tomli stands in before 3.11
        return tops - standard - {"esccs_edge"}

    def imported_files(self, file: str) -> set[str]:
        """Files of the package that a file imports."""
        found = {self._file_of.get(name) for name in self.imports(file)}
        return {name for name in found if name is not None} - {file}

    def packages(self) -> dict[str, set[str]]:
        """Package -> other packages that its files import.

        A folder is one; where it holds others, each of its own files counts as one.
        """
        arrows: dict[str, set[str]] = {}
        for file in self.files:
            arrows.setdefault(self.package_of(file), set()).update(
                map(self.package_of, self.imported_files(file))
            )
        return {package: targets - {package} for package, targets in arrows.items()}

    def package_of(self, file: str) -> str:
        """Return the package of a source."""
        folder = Path(file).parent
        return file if folder in self._split else folder.as_posix()


def module_name(file: str) -> str:
    """Name under which a source is imported."""
    parts = [*Path(file).with_suffix("").parts]
    parts = parts if parts[0] == "esccs_edge" else ["esccs_edge", *parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circle(arrows: Mapping[str, Collection[str]]) -> list[str]:
    """Return a circle in a graph, or nothing."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def floors(arrows: Mapping[str, Collection[str]]) -> dict[str, int]:
    """Return how many steps lead down from each node of a graph without circles."""
    height: dict[str, int] = {}
    for node in TopologicalSorter(arrows).static_order():
        height[node] = 1 + max((height[target] for target in arrows.get(node, ())), default=-1)
    return height


def main() -> None:
    """Print the graph."""
    graph = ImportGraph(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY)
    files = {file: graph.imported_files(file) for file in graph.files}
    packages = graph.packages()
    print(f"{len(files)} files, {sum(map(len, files.values()))} imports between them")
    print(f"circle of files: {' <- '.join(circle(files)) or 'none'}")
    print(f"{len(packages)} packages, {sum(map(len, packages.values()))} arrows between them")
    print(f"circle of packages: {' <- '.join(circle(packages)) or 'none'}")
    if not circle(packages):
        heights = floors(packages)
        for floor in range(max(heights.values()), -1, -1):
            print(f"{floor:3d}  {'  '.join(n for n in sorted(heights) if heights[n] == floor)}")


if __name__ == "__main__":
    main()
