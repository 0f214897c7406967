"""The command line: what its words become, and what its help says."""

import pytest

import main as checkout
from segfusion_jax.commands import launch, parser
from tests.test_config import FIELDS

RUN = ["--config", "synthetic"]


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["--set", "seed=1", "--set=bridge.mode=dim"], ["seed=1", "bridge.mode=dim"]),
        (["--config.seed=1", "--config.data.root", "PA TH"], ["seed=1", "data.root=PA TH"]),
        (["--config.segmenter.image_size=(96, 128)"], ["segmenter.image_size=(96, 128)"]),
        (["--config.data.download", "--workdir=x"], ["data.download"]),
        (["-config.data.mask_root=a=b_c"], ["data.mask_root=a=b_c"]),
    ],
)
def test_both_forms_of_a_change_are_the_same(words, changes):
    assert parser.parse(["train", *RUN, *words]).set == changes


@pytest.mark.parametrize("command", [["train"], ["plan"], ["study", "bridge"]])
def test_options_of_several_processes_are_taken_in_both_spellings(command):
    for option in ("--num_processes=2", "--num-processes=2"):
        arguments = parser.parse([*command, *RUN, "--coordinator=here:1", option, "--process", "1"])
        assert (arguments.coordinator, arguments.num_processes, arguments.process) == ("here:1", 2, 1)
    assert parser.parse(["predict", "a_b.jpg", "--no_overlays", "--model=m_n", "--output", "o"]).images == ["a_b.jpg"]


def test_stages_are_a_list():
    assert parser.parse(["train", *RUN, "--stages=evaluate,report"]).stages == ["evaluate", "report"]


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (RUN, ["train", *RUN]),
        ([*RUN, "--dry_run"], ["plan", *RUN]),
        ([*RUN, "--study=bridge", "--repeats=2"], ["study", "bridge", *RUN, "--repeats=2"]),
        (["--study", "protocols", *RUN], ["study", "protocols", *RUN]),
    ],
)
def test_the_door_of_a_checkout_leads_to_the_same_commands(words, command):
    assert parser.parse(checkout.command_line(words)) == parser.parse(command)


@pytest.mark.parametrize(
    "words",
    [
        [*RUN, "--study=bridge", "--stages=prepare"],
        [*RUN, "--study=bridge", "--dry_run"],
        [*RUN, "--dry_run", "--study=bridge"],
        [*RUN, "--study=nothing"],
        [*RUN, "--repeats=2"],
        ["--conf", "synthetic"],
    ],
)
def test_what_does_not_go_together_is_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        parser.parse(checkout.command_line(words))
    assert ended.value.code == 2 and "segfusion" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "workdir"),
    [
        (["train", "--config", "synthetic"], "runs/synthetic"),
        (["train", "--config", "ham10000:quick"], "runs/ham10000_quick"),
        (["plan", "--config", "/a/b/isic2020.py"], "runs/isic2020"),
        (["study", "bridge", "--config", "configs/ham10000.py:quick"], "runs/ham10000_quick_bridge"),
    ],
)
def test_a_workdir_has_a_name_of_its_own(words, workdir):
    assert str(launch.default_workdir(parser.parse(words))) == workdir


@pytest.mark.parametrize("command", ["train", "study", "compare", "plan", "predict", "evaluate", "export"])
def test_each_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        parser.parse([command, "--help"])
    text = capsys.readouterr().out
    required = {"compare": "RUN", "predict": "--model DIR", "evaluate": "--model DIR", "export": "--model DIR"}
    assert ended.value.code == 0 and required.get(command, "--config CONFIG[:VARIANT]") in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_help_of_train_lists_every_field_with_its_default_and_meaning(capsys):
    with pytest.raises(SystemExit):
        parser.parse(["train", "--help"])
    lines = capsys.readouterr().out.splitlines()
    fields = {line.split()[0]: number for number, line in enumerate(lines) if " = " in line and line[:3].strip()}
    assert fields.keys() >= FIELDS.keys()
    assert lines[fields["classifier.training.epochs"]].strip() == "classifier.training.epochs = 50"
    assert lines[fields["classifier.training.epochs"] + 1].strip() == "Passes over the training images; at least 1"
    assert all(lines[number + 1].startswith("      ") for number in fields.values())
