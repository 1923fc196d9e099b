"""The names that ``import harness`` offers to notebooks."""

import ast
from importlib import import_module
from pathlib import Path

import harness


def test_every_public_name_is_importable_and_declared_for_type_checkers():
    tree = ast.parse(Path(harness.__file__).read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    declared = {alias.asname: node.module for node in checked.body for alias in node.names}
    assert sorted(declared) == harness.__all__
    for name, module in declared.items():
        assert getattr(harness, name) is getattr(import_module(module), name)
    assert set(harness.__all__) <= set(dir(harness))


def test_examples_import_public_names_alone():
    examples = sorted((Path(__file__).parents[1] / "examples").glob("plot_*.py"))
    assert len(examples) >= 6
    for example in examples:
        for node in ast.walk(ast.parse(example.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness"):
                assert node.module == "harness", example
                assert {alias.name for alias in node.names} <= set(harness.__all__), example
