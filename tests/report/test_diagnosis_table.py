"""What ``doctor`` prints."""

import json

import pytest

from harness.checks.diagnosis import Diagnosis, find_worst
from harness.report.diagnosis_table import format_json, print_diagnoses

FOUND = [
    Diagnosis("python", "version", "ok", "3.11.7", None, {"version": "3.11.7"}),
    Diagnosis("packages", "numpy", "fault", "is missing", "python -m pip install 'numpy>=2'"),
    Diagnosis("packages", "extras", "ok", "none", "python -m pip install x"),
    Diagnosis("environment", "digest", "caution", "abc", None, {"digest": "abc"}),
]


def test_every_diagnosis_has_a_line_in_its_group(capsys):
    print_diagnoses(FOUND, 1.25)
    assert capsys.readouterr().out == (
        "python\n"
        "  ok      version  3.11.7\n"
        "\n"
        "packages\n"
        "  fault   numpy    is missing\n"
        "          repair: python -m pip install 'numpy>=2'\n"
        "  ok      extras   none\n"
        "          install: python -m pip install x\n"
        "\n"
        "environment\n"
        "  caution digest   abc\n"
        "\n"
        "2 ok, 1 caution, 1 fault: something that is required is missing or broken; type the commands after "
        "`repair:` (1.2 s)\n"
    )


def test_long_text_is_wrapped_and_a_command_stays_on_one_line(capsys):
    command = "python -m harness doctor " + "x" * 200
    print_diagnoses([Diagnosis("store", "place", "fault", "word " * 60, command)], 0)
    lines = capsys.readouterr().out.splitlines()
    assert f"          repair: {command}" in lines
    assert all(len(line) <= 120 for line in lines[1:] if "repair" not in line)
    assert " ".join(lines).count("word") == 60


def test_control_characters_of_names_do_not_reach_the_terminal(capsys):
    print_diagnoses([Diagnosis("data", "x", "caution", "a\x1b[2Jb", "rm 'a\x1b[2J'")], 0)
    assert "\x1b" not in capsys.readouterr().out


def test_json_has_the_worst_status_and_the_digest_of_the_environment():
    document = json.loads(format_json(FOUND, 1.23456))
    checks = document.pop("checks")
    assert document == {
        "format": 1,
        "status": "fault",
        "exit_status": 1,
        "environment_digest": "abc",
        "seconds": 1.235,
    }
    assert checks[0] == {
        "group": "python",
        "name": "version",
        "status": "ok",
        "text": "3.11.7",
        "command": None,
        "facts": {"version": "3.11.7"},
    }


def test_json_without_a_digest_has_null():
    document = json.loads(format_json(FOUND[:1], 0))
    assert (document["environment_digest"], document["exit_status"]) == (None, 0)


@pytest.mark.parametrize(
    ("statuses", "worst"), [("", "ok"), ("ok caution", "caution"), ("fault ok caution", "fault")]
)
def test_worst_status(statuses, worst):
    assert find_worst(Diagnosis("a", "b", status, "") for status in statuses.split()) == worst
