"""The note of a run in the MLflow UI."""

import html
import re
from types import SimpleNamespace

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from harness.checks.findings import Finding, Verdict
from harness.tracking.decoding_content import describe_run
from harness.tracking.run_result import RunResult


def make_decoding(name):
    """Return what the note reads of a decoding, all of whose names are one."""
    return SimpleNamespace(
        samples=SimpleNamespace(
            contrast=SimpleNamespace(classes=(name, "house")), y=[name, "house"] * 16, n_voxels=80
        ),
        question=SimpleNamespace(
            scoring=SimpleNamespace(select="roc_auc"),
            estimator=SimpleNamespace(name=f"lda[{name}]"),
            scheme=SimpleNamespace(name=f"logo[{name}]"),
            roi=SimpleNamespace(name=f"vt {name}"),
        ),
        recording=SimpleNamespace(dataset=name, subject="1", notice=f"simulated {name}"),
        warnings=(f"few volumes of {name}",),
        describe_optimism=lambda: [f"optimism_roc_auc +0.021 ({name})"],
        summarise=lambda: pd.DataFrame({"mean": [0.75], "sd": [0.125]}, index=["test_accuracy"]),
    )


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "[x](javascript:1)",
        "**x**",
        "a|b",
        "`x`",
        "_x_",
        "\\*x*",
        "~~x~~",
        "&lt;",
        "a_b",
    ],
)
def test_note_shows_names_as_they_are(name):
    """Rendered with markdown-it, with HTML allowed and tables, as an unprotected UI would."""
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    findings = (
        Finding("class_order", Verdict.caution, f"'{name}' first in 9 of 12. Compare.", "paper"),
        Finding("selection", Verdict.ok, f"nothing chosen for {name}.", "paper"),
        Finding("standardisation", Verdict.ok, "no statistic. Voxels must keep their mean.", "paper"),
        Finding("blocks_split", Verdict.leak, "4 blocks.", "paper"),
    )
    page = page.render(describe_run(RunResult(make_decoding(name), findings)))
    elements = set(re.findall(r"<(\w+)", page))
    assert elements <= {"p", "strong", "em", "code", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    text = html.unescape(re.sub(r"<[^>]*>", "", page))
    for words in (
        f"{name} subject 1",
        "test_accuracy 0.750 (SD over folds 0.125); nominal chance 0.500; not tested, so no p-value; "
        "audit: leak.",
        f"{name} vs house, vt {name}, lda[{name}], cv=logo[{name}]; 32 volumes, 80 voxels",
        f"simulated {name}",
        f"optimism_roc_auc +0.021 ({name})",
        f"warning: few volumes of {name}",
        "audit: leak (1 leak, 1 caution, 2 ok; all in audit.json)",
        "ok, standardisation: no statistic. Voxels must keep their mean.",
        f"caution, class_order: '{name}' first in 9 of 12. Compare.",
    ):
        assert words in text, text
    assert text.index("leak, blocks_split: 4 blocks.") < text.index("caution, class_order"), "worst first"
    assert "nothing chosen" not in text
    assert re.search(r"test_accuracy\s+0\.750\s+0\.125", text)
