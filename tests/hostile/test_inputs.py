"""Every hostile input of the table has the tests that it names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.hostile.inputs import INPUTS

HERE = Path(__file__).parent


def test_all_inputs_are_listed() -> None:
    assert list(INPUTS) == list(range(1, 37))


@pytest.mark.parametrize("number", INPUTS)
def test_the_tests_of_an_input_are_there(number: int) -> None:
    for test in INPUTS[number].tests:
        file, name = test.split("::")
        tree = ast.parse((HERE / f"{file}.py").read_text())
        functions = [f.name for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)]
        assert functions.count(name) == 1, f"{name} is not in {file}.py"
