"""The diagram of the architecture: packages as layers, and how many modules of each import which other.

Both come from the code: the layers from the contract that import-linter checks, the numbers from the graph of
imports.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
BOX_WIDTH, BOX_HEIGHT, GAP, ROW = 124, 34, 40, 64
WIDTH = 340
MARGIN = 12


def read_layers() -> list[list[str]]:
    """Return the packages of each layer, from the command line to the data."""
    contracts = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [[name.strip() for name in layer.split("|")] for layer in layers]


def count_imports(package: str, parts: Sequence[str]) -> Counter[tuple[str, str]]:
    """Return the number of pairs of modules in which one of a part imports one of another part.

    Imports inside functions and for type checkers count as well.
    """
    import grimp

    graph = grimp.build_graph(package)
    counts: Counter[tuple[str, str]] = Counter()
    for module in graph.modules:
        importer = _find_part(package, module, parts)
        for imported in graph.find_modules_directly_imported_by(module):
            target = _find_part(package, imported, parts)
            if importer and target and importer != target:
                counts[importer, target] += 1
    return counts


def reduce_arrows(counts: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """Return the imports without those that a chain of others implies (the transitive reduction)."""
    below: dict[str, set[str]] = {}
    for importer, target in counts:
        below.setdefault(importer, set()).add(target)

    def reach(name: str) -> set[str]:
        return {name}.union(*(reach(target) for target in below.get(name, ())))

    return {
        (importer, target): count
        for (importer, target), count in counts.items()
        if not any(target in reach(other) for other in below[importer] - {target})
    }


def draw_diagram(layers: Sequence[Sequence[str]], arrows: Mapping[tuple[str, str], int]) -> str:
    """Return an SVG with a row per layer, and an arrow with its number of imports per pair of packages.

    Lines and text take the colour of the page.
    """
    centres = _place(layers)
    height = 2 * MARGIN + ROW * len(layers) - (ROW - BOX_HEIGHT)
    levels = {name: level for level, layer in enumerate(layers) for name in layer}
    drawn = [
        _draw_arrow(centres[importer], centres[target], count, levels[target] - levels[importer] > 1)
        for (importer, target), count in sorted(arrows.items())
    ]
    boxes = [_draw_box(name, *centres[name]) for layer in layers for name in layer]
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Imports between packages" '
        'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif">'
        '<defs><marker id="import-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" '
        'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="currentColor"/></marker></defs>'
        f"{''.join(drawn)}{''.join(boxes)}</svg>"
    )


def list_counts(
    layers: Sequence[Sequence[str]], counts: Mapping[tuple[str, str], int]
) -> list[tuple[str, list[tuple[str, int]]]]:
    """Return, for each package, those that it imports from with the number of imports, the most first."""
    rows = []
    for name in (name for layer in layers for name in layer):
        targets = [(target, count) for (importer, target), count in counts.items() if importer == name]
        rows.append((name, sorted(targets, key=lambda item: (-item[1], item[0]))))
    return rows


def _find_part(package: str, module: str, parts: Sequence[str]) -> str | None:
    name = module.removeprefix(f"{package}.").partition(".")[0]
    return name if name in parts else None


def _place(layers: Sequence[Sequence[str]]) -> dict[str, tuple[float, float]]:
    """Return the centre of every package's box."""
    centres = {}
    for level, layer in enumerate(layers):
        width = len(layer) * BOX_WIDTH + (len(layer) - 1) * GAP
        for column, name in enumerate(layer):
            x = (WIDTH - width) / 2 + column * (BOX_WIDTH + GAP) + BOX_WIDTH / 2
            centres[name] = (x, MARGIN + level * ROW + BOX_HEIGHT / 2)
    return centres


def _draw_box(name: str, x: float, y: float) -> str:
    left, top = x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2
    return (
        f'<g><rect x="{left:g}" y="{top:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" '
        'fill="var(--pst-color-surface, #eee)" stroke="currentColor" stroke-width="1.2"/>'
        f'<text x="{x:g}" y="{y + 5:g}" text-anchor="middle" font-size="15" '
        f'fill="currentColor">{escape(name)}</text></g>'
    )


def _draw_arrow(
    start: tuple[float, float], end: tuple[float, float], count: int, passes_a_layer: bool
) -> str:
    """Return a line from the bottom of a box to the top of another, and its number next to the middle."""
    side = (end[0] > start[0]) - (end[0] < start[0])
    x1 = start[0] + side * (BOX_WIDTH / 2 - 10 if passes_a_layer else BOX_WIDTH / 4)
    x2 = end[0] + side * (BOX_WIDTH / 4 if passes_a_layer else 0)
    y1, y2 = start[1] + BOX_HEIGHT / 2, end[1] - BOX_HEIGHT / 2
    # Numbers stand on the side that is away from the middle column, where no other arrow ends.
    outward = -1 if (x1 + x2) / 2 < WIDTH / 2 else 1
    x = (x1 + x2) / 2 + outward * 7
    y = (y1 + y2) / 2 + (5 if not side or passes_a_layer else -1 if side == outward else 13)
    anchor = "end" if outward < 0 else "start"
    return (
        f'<path d="M{x1:g} {y1:g} L{x2:g} {y2:g}" stroke="currentColor" stroke-width="1.2" fill="none" '
        f'marker-end="url(#import-head)"/><text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="13" '
        f'fill="currentColor">{count}</text>'
    )
