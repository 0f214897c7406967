import contextlib
import io
import pathlib
import re

import pytest

TEXT = pathlib.Path(__file__).parents[2] / "docs" / "evaluation.md"
EXAMPLES = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", TEXT.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_print_what_the_text_says(number):
    code, expected = EXAMPLES[number]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(TEXT), "exec"), {})
    assert printed.getvalue() == expected


def test_there_are_examples():
    assert EXAMPLES
