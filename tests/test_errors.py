"""Names that come from data or from the command line cannot steer the terminal."""

import unicodedata
from dataclasses import replace

import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import LeaveOneGroupOut

from harness.app.entry import run
from harness.app.verbs import run_verb
from harness.datasets.haxby import read_subject
from harness.decoding.decode import decode
from harness.decoding.estimator import Estimator
from harness.decoding.evaluation import Scoring
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.errors import DataError, HarnessError, count, escape_controls, format_error, suggest
from harness.report.run_summary import print_run
from harness.report.sweep_summary import print_error
from harness.samples.contrasts import make_contrast
from harness.tracking.run_result import RunResult
from marks import first

# A colour, a title, a bell, C1's own start of a sequence, text that runs backwards, half of a character.
HOSTILE = ["\x1b[31mred", "\x1b]0;title\x07", "bell\a", "\x9b31mred", "\u202egnp.exe", "lone\udc80"]


def assert_harmless(text):
    bad = [c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    assert not bad and not set(text) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"), text


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_messages_of_errors_hold_no_control_characters(name, capsys):
    error = DataError(f"no volumes of {name} in the labels")
    print_error(error)
    for text in (str(error), format_error(error), format_error(OSError(name)), capsys.readouterr().err):
        assert_harmless(text)
        assert name.encode("unicode_escape").decode()[:6] in text or name[:3] in text


def test_what_is_not_a_control_character_stays_as_it_is():
    text = "Gesicht_größe 顔\t[red]face[/red] :cat: <b> 'x' \\x1b\nsecond line"
    assert escape_controls(text) == text == str(HarnessError(text))


def test_an_error_without_or_with_several_arguments_has_pythons_text():
    assert str(HarnessError()) == str(Exception())
    assert str(HarnessError("a", 1)) == str(Exception("a", 1))


@pytest.mark.parametrize("name", first(1, HOSTILE), ids=ascii)
def test_a_verb_that_refuses_prints_no_control_characters(name, capsys):
    run_verb(["inspect", f"contrast.conditions=['{name}',cat]", "dataset=haxby", "subject=9"])
    run_verb([name])
    run_verb(["runs", f"{name}=5"])
    assert_harmless("".join(capsys.readouterr()))


@pytest.mark.parametrize("name", first(1, HOSTILE[:-1]), ids=ascii)
def test_a_run_that_is_refused_prints_no_control_characters(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [f"estimator='{name}'", f"roi.mask='{name}'", f"{name}=1", f"contrast.conditions=['{name}',cat]"]
    for word in words:
        assert run([word, "tracking=off", "dataset=haxby", f"dataset.data_dir={tmp_path}"]) != 0
        assert_harmless("".join(capsys.readouterr()))


@pytest.mark.parametrize(
    "name", ["\x1b[31mred", "\x9b31mred", "[red]", "[/red]", ":cat:", "[link=x]y"], ids=ascii
)
def test_a_result_is_printed_with_the_names_as_they_are(tiny_subject, name, capsys):
    data = tiny_subject(conditions=(name, "house"))
    decoding = decode(
        read_subject(data / "haxby2001", 1, dataset="haxby"),
        Question(
            make_contrast([name, "house"]),
            Estimator(f"lda[{name}]", LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
            Scheme(f"logo{name}", LeaveOneGroupOut()),
            scoring=Scoring(inner_folds=2),
        ),
    )
    decoding = replace(decoding, warnings=(f"few volumes of {name}",))
    print_run(RunResult(decoding), f"sub-1 {name}", f"/runs/{name}", None)
    printed = capsys.readouterr().out
    assert_harmless(printed)
    shown = name.encode("unicode_escape").decode() if not name.isprintable() else name
    # In the table's title, in the warning, in the path.
    assert printed.count(shown) == 3, printed


def test_a_number_and_its_noun_agree():
    assert [count(number, "run") for number in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
    assert [count(number, "entry", "entries") for number in (0, 1, 2)] == [
        "0 entries",
        "1 entry",
        "2 entries",
    ]


@pytest.mark.parametrize(
    ("word", "allowed", "meant"),
    [
        ("face_vs_hose", ["face_vs_shoe", "face_vs_house"], "face_vs_house"),
        ("face_vs_dog", ["face_vs_shoe", "face_vs_house"], None),
        ("tutorial/holdout3", ["tutorial/holdout30", "tutorial/kfold5"], "tutorial/holdout30"),
        ("tutorial/nothing", ["tutorial/coefficients", "tutorial/fit_on_all"], None),
        ("svc_l3", ["svc_l1", "ridge"], "svc_l1"),
    ],
)
def test_a_suggestion_is_similar_in_every_part(word, allowed, meant):
    assert suggest(word, allowed) == (f" Did you mean {meant!r}?" if meant else "")
