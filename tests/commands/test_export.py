"""`segfusion export`: what it writes and says. What the files compute is tests/export's matter."""

import json
import sys

import pytest

from segfusion_jax.commands import main


def test_a_released_model_becomes_files(finished, tmp_path, capsys):
    pytest.importorskip("flatbuffers")
    command = ["export", "--model", str(finished), "--output", str(tmp_path), "--format", "stablehlo"]
    assert main.main([*command, "--image-size", "32", "48"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["segfusion.json", "segfusion.stablehlo"]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        str(tmp_path / name) for name in ("segfusion.stablehlo", "segfusion.json")
    ]
    metadata = json.loads((tmp_path / "segfusion.json").read_text())
    assert metadata["input"]["images"]["shape"] == ["batch", 32, 48, 3]
    released = json.loads((finished / "model/metadata.json").read_text())
    assert all(metadata[name] == released[name] for name in ("classes", "threshold", "data"))
    assert metadata["data"][0]["licence"]


def test_a_package_that_is_missing_is_named(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)  # importing it fails, as where it is not installed
    command = ["export", "--model", str(finished), "--output", str(tmp_path), "--format", "onnx"]
    assert main.main(command) == 1
    assert "onnx" in (told := capsys.readouterr().err) and "pip install 'segfusion_jax[export]'" in told


def test_sizes_that_are_none_are_refused(finished, tmp_path, capsys):
    command = ["export", "--model", str(finished), "--output", str(tmp_path), "--image-size", "0", "48"]
    assert main.main(command) == 1
    assert "image_size = (0, 48): must be (height, width) in pixels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--format", "onnx"], "'web' goes into a folder of its own"),
        (["--image-size", "32", "48"], "--image-size: not with --format web"),
    ],
)
def test_what_does_not_go_with_a_site_is_refused_before_the_model_is_read(tmp_path, capsys, options, told):
    command = ["export", "--model", "nowhere", "--output", str(tmp_path / "site"), "--format", "web"]
    assert main.main([*command, *options]) == 1
    assert told in capsys.readouterr().err and not (tmp_path / "site").exists()
