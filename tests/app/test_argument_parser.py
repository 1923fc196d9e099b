"""Flags and keys of verbs that are misspelt: the message suggests the closest one."""

import pytest

from harness.app.entry import run
from harness.app.verbs import run_verb


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["doctor", "--verfy"], "--verify"),
        (["compare", "--mots", "3"], "--most"),
        (["inspect", "--config_dir", "x"], "--config-dir"),
    ],
)
def test_an_unknown_flag_of_a_verb_gets_the_closest_one(words, meant, capsys):
    with pytest.raises(SystemExit) as raised:
        run_verb(words)
    assert raised.value.code == 2
    assert capsys.readouterr().err.endswith(f"Did you mean '{meant}'?\n")


def test_an_unknown_flag_of_a_run_gets_the_closest_one(capsys):
    with pytest.raises(SystemExit) as raised:
        run(["--mulitrun", "subject=1,2"])
    assert raised.value.code == 2
    assert capsys.readouterr().err.endswith("Did you mean '--multirun'?\n")


def test_a_flag_unlike_all_others_gets_no_suggestion(capsys):
    with pytest.raises(SystemExit):
        run_verb(["doctor", "--xyz"])
    assert capsys.readouterr().err.endswith("unrecognized arguments: --xyz\n")


@pytest.mark.parametrize("word", ["volume=3", "voluems=3"])
def test_inspect_suggests_its_own_key(word, capsys):
    assert run_verb(["inspect", word]) == 2
    error = capsys.readouterr().err
    assert f"unknown key '{word[:-2]}'. Did you mean 'volumes'?" in error
    assert "for example, volumes=0,17,face" in error


@pytest.mark.parametrize("verb", ["doctor", "tutorial", "inspect"])
def test_a_bare_word_is_answered_with_the_form_of_an_override(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_verb([verb, "help"]) == 2
    error = capsys.readouterr().err
    assert "'help' cannot be read as GROUP=OPTION or KEY=VALUE, for example, subject=2; --help" in error
    assert "quoted" not in error
