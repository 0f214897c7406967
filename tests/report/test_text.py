import math
import re

from segfusion_jax.report import contents, text
from segfusion_jax.report.blocks import Details, Estimate, Figure, Headline, Page, Scale, Section, Table
from tests.report import sample

METRICS = {
    "segmentation": {"dice": {"value": 0.9124, "low": 0.9, "high": 0.92}, "n": {"value": 1502.0}},
    "classification": {
        "roc_auc": {"value": 0.93, "low": 0.91, "high": 0.95, "undefined": 3},
        "mcc": {"value": -0.2, "low": -0.3, "high": -0.1},
        "prevalence": {"value": 0.195},
        "n": {"value": 1502.0},
    },
}


def test_table_is_aligned():
    assert text.table(METRICS).splitlines() == [
        "                         value  95 % interval",
        "segmentation",
        "  Dice                   0.912  0.900 to 0.920",
        "  Images                 1,502",
        "classification",
        "  ROC-AUC                0.930  0.910 to 0.950",
        "  Matthews correlation  -0.200  -0.300 to -0.100",
        "  Prevalence             0.195  no interval",
        "  Images                 1,502",
    ]


def test_table_leaves_out_an_empty_section():
    assert "segmentation" not in text.table({"segmentation": {}, "classification": METRICS["classification"]})


def test_an_undefined_value_is_a_dash():
    assert text.table({"classification": {"mcc": {"value": math.nan}}}).endswith("–")


def test_markdown_says_the_same(tmp_path):
    page = Page(
        title="Title",
        verdict="It works.",
        headlines=[Headline("ROC-AUC", Estimate(0.93, 0.91, 0.95))],
        headlines_note="",
        warnings=["Few images."],
        sections=[
            Section(
                "Results",
                [
                    Figure("ROC curve", "On test.", tmp_path / "evaluate" / "roc.png"),
                    Table(
                        "Numbers", ("Name", "Value", "Drawn"), [("one", 1234, Scale(0.5)), ("two", None, "")], "Note."
                    ),
                    Details("Configuration", "long"),
                ],
            ),
            Section("Empty", []),
        ],
        use="End.",
    )
    assert text.markdown(page, tmp_path / "report").split("\n\n") == [
        "**End.**",
        "# Title",
        "It works.",
        "| Metric | Value | 95 % interval |\n| --- | --- | --- |\n| ROC-AUC | 0.930 | 0.910 to 0.950 |",
        "**Read this first**",
        "- Few images.",
        "## Results",
        "![ROC curve](<../evaluate/roc.png>)",
        "ROC curve. On test.",
        "### Numbers",
        "Note.",
        "| Name | Value |\n| --- | --- |\n| one | 1,234 |\n| two | – |",
        "End.\n",
    ]


def test_a_table_without_rows_keeps_its_headings(tmp_path):
    page = Page(title="T", verdict="V", sections=[Section("S", [Table("Numbers", ("Name", "Value"), [])])])
    assert "| Name | Value |\n| --- | --- |\n" in text.markdown(page, tmp_path)


def test_markdown_of_any_text_keeps_its_tables(tmp_path):
    evil = "a|b\n<script>*x*"
    page = Page(title="T", verdict="V", sections=[Section("S", [Table("T", (evil, "y"), [(evil, evil)])])])
    lines = [line for line in text.markdown(page, tmp_path).splitlines() if line.startswith("|")]
    assert lines[2] == r"| a\|b \<script\>\*x\* | a\|b \<script\>\*x\* |"
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines)


def test_the_summary_of_a_run_has_its_numbers_and_links_that_lead_somewhere(tmp_path):
    run = sample.run(tmp_path)
    folder = tmp_path / "report"
    folder.mkdir()
    summary = text.markdown(contents.page(run), folder)
    for said in ("| ROC-AUC | 0.931 | 0.911 to 0.951 |", "| sensitivity 80 % | 0.400 | 0.600 (0.580 to 0.620) |"):
        assert said in summary
    links = re.findall(r"\]\(<(.*)>\)", summary)
    assert len(links) == len(sample.FIGURES) and all((folder / link).is_file() for link in links)
