"""The notebooks run from their first cell to their last, and are stored without what they show."""

import json
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"
SAYS = {
    "judge": ("temperature 2.11, threshold 0.144", "calibration error before 0.066"),
    "predict": ("probability of malignancy", "where 2 % are malignant"),
    "train": ("roc_auc", "The images are drawn by a program"),
}


def cells(name: str) -> list[dict]:
    return json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]


def test_there_are_no_others():
    assert {path.stem for path in FOLDER.iterdir()} == set(SAYS)


@pytest.mark.parametrize(
    "name", ["judge", *(pytest.param(name, marks=pytest.mark.slow) for name in ("predict", "train"))]
)
def test_they_run_and_say_what_they_should(name, tmp_path):
    code = [cell for cell in cells(name) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    program = "import matplotlib; matplotlib.use('agg')\n" + "\n".join("".join(cell["source"]) for cell in code)
    done = subprocess.run([sys.executable, "-c", program], cwd=FOLDER.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for words in SAYS[name]:
        assert words in done.stdout
