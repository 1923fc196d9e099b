"""Completion of verbs, options, filters, runs and sweeps, as the shells request it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.entities import Metric, Param, RunTag

from harness.__main__ import main
from harness.app.verbs import VERBS

SWEEP = "20261121-023015-ab12cd34"


@pytest.fixture(scope="module")
def store(make_store, tmp_path_factory):
    """Three runs, one of them of a sweep."""
    store = make_store(tmp_path_factory.mktemp("completion") / "mlruns")
    for subject, estimator, sweep in (("1", "svc", ""), ("2", "lda", SWEEP), ("10", "my estimator", "")):
        run = store.client.create_run(store.experiment_id).info.run_id
        store.client.log_batch(
            run,
            [Metric("test_accuracy_mean", 0.5, 0, 0)],
            [Param("subject", subject), Param("estimator", estimator)],
            [RunTag("harness.sweep", sweep)] if sweep else [],
        )
        store.client.set_terminated(run)
    text = '{"started": "2026-11-21T02:30:15+00:00"}'
    store.client.set_experiment_tag(store.experiment_id, f"harness.sweep.{SWEEP}", text)
    return store


@pytest.fixture
def complete(monkeypatch, capsys, tmp_path):
    """Return a function from a line to what is offered for its last word."""
    monkeypatch.chdir(tmp_path)

    def complete(line, shell="bash"):
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setattr(sys, "argv", ["harness", "-sc", f"query={shell}"])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0
        printed = capsys.readouterr()
        assert printed.err == "", "would be printed into the prompt"
        return printed.out.split()

    return complete


def test_verbs_and_groups_are_offered_first(complete):
    assert {*VERBS, "estimator=", "subject="} <= set(complete("harness "))
    assert "compare" in complete("harness comp")
    assert complete("harness reloc") == ["relocate"]
    assert complete("harness doc") == ["doctor"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("compare sub", ["subject="]),
        ("compare --sta", ["--status"]),
        ("runs --status F", ["FINISHED", "FAILED"]),
        ("compare --sweep l", ["latest"]),
        ("compare --csv ta", []),
        ("compare --folder absent subject=", []),
        ("ui --run ", []),
        ("nothing el", []),
    ],
)
def test_arguments_of_a_verb_are_offered(complete, line, offered):
    assert complete(f"harness {line}") == offered


def test_verbs_that_take_overrides_offer_those_of_hydra(complete):
    assert complete("harness fetch dataset=") == [
        f"dataset={name}" for name in ("bids", "haxby", "nifti", "simulated")
    ]
    assert set(complete("harness check --permutations 9 cv=")) >= {"cv=logo", "cv=kfold5"}


def test_values_runs_and_sweeps_come_from_the_store(complete, store):
    folder = f"--folder {store.directory}"
    assert set(complete(f"harness compare {folder} subject=")) == {"subject=1", "subject=2", "subject=10"}
    assert set(complete(f"harness compare {folder} subject=1")) == {"subject=1", "subject=10"}
    assert complete(f"harness compare {folder} subject=1,2") == ["subject=1,2"]
    assert set(complete(f"harness runs {folder} estimator=")) == {"estimator=svc", "estimator=lda"}, (
        "a value with a space is no word"
    )
    assert complete(f"harness compare {folder} --sweep ") == ["latest", SWEEP]
    newest = [run.info.run_id for run in store.client.search_runs([store.experiment_id])]
    assert complete(f"harness ui {folder} --run ") == [run[:12] for run in newest]
    assert complete(f"harness ui {folder} --run {newest[1][:4]}") == [newest[1][:12]]


def test_fish_is_given_files_which_other_shells_find_themselves(complete, tmp_path):
    (tmp_path / "table.csv").touch()
    (tmp_path / "tables").mkdir()
    assert sorted(complete("harness compare --csv ta", "fish")) == ["table.csv", "tables/"]
    assert complete("harness compare --csv ta", "bash") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["harness", "reloc"], ["relocate"]),
        (["harness", "compare", "sub"], ["subject="]),
        (["harness", "estimator=ld"], ["estimator=lda"]),
        (["harness", "compare", "--csv", "ta"], ["table.csv"]),
    ],
)
def test_bash_completes_after_the_line_of_the_documentation(tmp_path, words, offered):
    (tmp_path / "table.csv").touch()
    line = " ".join(words)
    # `-o default` completes files where the function offers nothing: compgen stands for readline.
    script = f"""
eval "$(harness -sc install=bash)"
complete -p harness > /dev/null
COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD={len(words) - 1}
hydra_bash_completion
[ ${{#COMPREPLY[@]}} -gt 0 ] || COMPREPLY=($(compgen -f -- '{words[-1]}'))
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    bash = shutil.which("bash")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == offered
    assert done.stderr == ""


def test_studies_are_offered_after_their_option(complete):
    assert complete("harness -cn tutorial/hold") == ["tutorial/holdout30"]
    assert "subjects_grid" in complete("harness subject=1 --config-name ")


def test_the_tutorial_takes_overrides(complete):
    assert "estimator=" in complete("harness tutorial estim")
