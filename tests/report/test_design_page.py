"""The page of a design check: standalone, complete, and safe for any name."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from harness.checks.design_check import DesignCheck
from harness.report.design_page import print_check, write_check
from harness.samples.class_order import OrderBalance

FILES = ["index.html", "accuracies.png", "design.json", "design.csv"]


def check_of(name="face", accuracy=0.75, **options):
    rows = {"variable": ["order", "block length", name], "accuracy": [accuracy, np.nan, 0.4]}
    columns = ("roc_auc", "null_mean", "null_low", "null_high", "p", "p_corrected")
    table = pd.DataFrame(rows | {column: [0.5, np.nan, 0.2] for column in columns})
    return DesignCheck(
        title=f"sub-1 {name}",
        table=table.assign(description=f"what {name} is"),
        balances=[OrderBalance(name, "cat", 9, 12, 598 / 4096)],
        positions=pd.DataFrame({"class": [name, "cat"], "blocks": 12, "mean_position": 1.5, "first": 6}),
        n_relabellings=2048,
        is_enumerated=True,
        notices=(f"notice {name}",),
        **options,
    )


def test_the_page_is_standalone_and_the_files_hold_the_table(tmp_path):
    check = check_of()
    files = write_check(check, tmp_path / "new" / "page", "python -m harness subject=1")
    assert [file.name for file in files] == FILES
    assert sorted(file.name for file in files[0].parent.iterdir()) == sorted(FILES)
    text = files[0].read_text(encoding="utf-8")
    for source in re.findall(r"""(?:src|href)=["']?([^"'> ]*)""", text):
        assert source.startswith("data:image/png;base64,"), source[:80]
    for words in ("9 of 12", "14.6 %", "All 2048 distinct", "python -m harness subject=1", check.conclusion):
        assert words in text, words
    with files[3].open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["variable"] for row in rows] == ["order", "block length", "face"]
    assert float(rows[0]["accuracy"]) == 0.75
    record = json.loads(files[2].read_text())
    assert record["order"] == [
        {"first": "face", "second": "cat", "k": 9, "n_runs": 12, "imbalance": 0.5, "probability": 598 / 4096}
    ]
    assert record["variables"][1]["accuracy"] is None


def test_an_older_page_is_replaced_and_other_files_stay(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for accuracy in (0.25, 0.875):
        page, *_ = write_check(check_of(accuracy=accuracy), tmp_path, "")
    assert "0.875" in page.read_text() and "0.25<" not in page.read_text()
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*FILES, "mine.txt"])


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, sorted(name for name, _ in attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "$x_{$", "</td><img/src=x>", "&lt;b&gt;", "{{ 7*7 }}"]
)
def test_the_page_shows_a_name_as_it_is(tmp_path, name):
    pages = [
        Page(write_check(check_of(shown), tmp_path / str(place), f"run {shown}")[0].read_text())
        for place, shown in enumerate(("face", name))
    ]
    assert pages[0].elements == pages[1].elements
    assert pages[1].text.count(name) == pages[0].text.count("face")


def test_the_printed_table_holds_scores_findings_and_files(tmp_path, capsys):
    check = check_of("[bold]\x1b[2J")
    print_check(check, [tmp_path / name for name in FILES])
    printed = capsys.readouterr().out
    assert "\x1b[2J" not in printed
    for words in ("0.750", "[bold]", "9 of 12", check.conclusion, "page     "):
        assert words in printed, words
    assert re.search(r"block length\s*│\s*-", printed)
