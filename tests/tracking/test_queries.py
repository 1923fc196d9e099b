"""Queries and tables of runs, from a store that MLflow's own client has written."""

import json
import os
import re
from datetime import datetime

import pandas as pd
import pytest
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from harness.app.verbs import run_verb
from harness.errors import TrackingError, UsageError
from harness.tracking.queries import RunQuery, parse_conditions, parse_statuses, select_runs
from harness.tracking.run_tables import RunTable, compare_runs, list_runs
from harness.tracking.store import local_uri, open_store
from harness.tracking.sweep_notes import list_sweeps

OLD, MIDDLE, NEW = "20261119-090000-0000000a", "20261120-090000-0000000b", "20261121-090000-0000000c"
HOUR = 3_600_000  # ms
NOON = 1_790_000_000_000  # ms

# Name of the run: data set, subject, estimator, accuracy, status, sweeps; in the order of their start.
RUNS = {
    "a": ("haxby", "1", "svc", 0.9, "FINISHED", f"{OLD} {NEW}"),
    "b": ("haxby", "2", "svc", 0.8, "FINISHED", OLD),
    "c": ("haxby", "1", "logistic[C=1,tol=2]", 0.95, "FINISHED", MIDDLE),
    "d": ("haxby", "2", "lda", None, "FAILED", MIDDLE),
    "e": ("simulated", "1", "svc", 0.7, "FINISHED", NEW),
    "f": ("simulated", "1", "O'Hara", None, "KILLED", ""),
    "g": ("simulated", "3", "svc", None, "RUNNING", NEW),
}
SWEEPS = {
    OLD: {"started": "2026-11-19T09:00:00+00:00", "ended": "2026-11-19T09:01:40+00:00", "finished": 2},
    MIDDLE: {
        "started": "2026-11-20T09:00:00+01:00",
        "ended": "2026-11-20T11:05:00+01:00",
        "command": "python -m harness -m estimator=logistic,lda",
        "total": 2,
        "finished": 1,
        "skipped": 0,
        "failed": 1,
    },
    NEW: {"started": "2026-11-21T09:00:00+00:00", "ended": None, "total": 3},
}


@pytest.fixture(scope="module")
def folder(make_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("selection") / "mlruns"
    stores = {
        "haxby": make_store(folder, "haxby decoding"),
        "simulated": open_store(None, folder, "simulated decoding"),
    }
    client = stores["haxby"].client
    for hour, (name, (dataset, subject, estimator, accuracy, status, sweeps)) in enumerate(RUNS.items()):
        run = client.create_run(
            stores[dataset].experiment_id, run_name=name, start_time=NOON + hour * HOUR
        ).info.run_id
        params = {"dataset": dataset, "subject": subject, "estimator": estimator, "cv": "logo"}
        metrics = {} if accuracy is None else {"test_accuracy_mean": accuracy, "test_accuracy_std": 0.125}
        tags = {"harness.sweep": sweeps} if sweeps else {}
        tags |= {"harness.error": "labels.txt: 'shoe' has no volumes"} if status == "FAILED" else {}
        client.log_batch(
            run,
            [Metric(key, value, NOON, 0) for key, value in metrics.items()],
            [Param(key, value) for key, value in params.items()],
            [RunTag(key, value) for key, value in tags.items()],
        )
        if status != "RUNNING":
            client.set_terminated(run, status, end_time=NOON + hour * HOUR + 90_000)
    for sweep, facts in SWEEPS.items():
        for dataset in {RUNS[name][0] for name in RUNS if sweep in RUNS[name][5]}:
            client.set_experiment_tag(
                stores[dataset].experiment_id, f"harness.sweep.{sweep}", json.dumps(facts)
            )
    return folder


@pytest.fixture(scope="module")
def uri(folder):
    return local_uri(folder)


def names(selected):
    return "".join(run.info.run_name for run in selected.runs)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (RunQuery(), "gfedcba"),
        (RunQuery(experiment="simulated decoding"), "gfe"),
        (RunQuery(sweep=OLD), "ba"),
        (RunQuery(sweep="latest"), "gea"),
        (RunQuery(experiment="haxby decoding", sweep="latest"), "a"),
        (RunQuery(statuses=("FAILED", "KILLED")), "fd"),
        (RunQuery(params={"subject": ("2",)}), "db"),
        (RunQuery(params={"subject": ("1", "3"), "estimator": ("svc",)}), "gea"),
        (RunQuery(params={"estimator": ("logistic[C=1,tol=2]", "lda")}), "dc"),
        (RunQuery(params={"estimator": ("O'Hara",)}), "f"),
        (RunQuery(sweep=MIDDLE, statuses=("FINISHED",), params={"subject": ("1",)}), "c"),
        (RunQuery(params={"subject": ("9",)}), ""),
    ],
)
def test_query_selects_runs_the_newest_first(uri, query, found):
    selected = select_runs(uri, query, limit=50)
    assert names(selected) == found
    assert not selected.has_more
    few = select_runs(uri, query, limit=1)
    assert names(few) == found[:1]
    assert few.has_more == (len(found) > 1)


def test_only_runs_that_are_shown_are_read_from_the_store(uri, monkeypatch):
    searches = []
    search = MlflowClient.search_runs
    monkeypatch.setattr(
        MlflowClient, "search_runs", lambda self, *a, **k: searches.append((a, k)) or search(self, *a, **k)
    )
    select_runs(uri, RunQuery(sweep=OLD, params={"subject": ("1", "2"), "cv": ("logo",)}), limit=3)
    assert [kwargs["max_results"] for _, kwargs in searches] == [4, 4]
    for (_, text), _ in searches:
        assert f"LIKE '%{OLD}%'" in text
        assert "params.`cv` = 'logo'" in text


def test_deleted_runs_do_not_match(make_store, tmp_path):
    store = make_store(tmp_path)
    for number in range(4):
        run = store.client.create_run(store.experiment_id, start_time=NOON + number).info.run_id
    store.client.delete_run(run)
    for limit, has_more in ((2, True), (3, False)):
        selected = select_runs(store.uri, RunQuery(), limit)
        assert (len(selected.runs), selected.has_more) == (min(limit, 3), has_more)


@pytest.mark.parametrize(
    ("words", "params"),
    [
        ([], {}),
        (["subject=2", "estimator=svc,logistic"], {"subject": ("2",), "estimator": ("svc", "logistic")}),
        (["cv=kfold5[n_splits=10,shuffle=true],logo"], {"cv": ("kfold5[n_splits=10,shuffle=true]", "logo")}),
        (["subject=2, 3,2"], {"subject": ("2", "3")}),
        (
            ["estimator=svc[dual=true,grid.C=[1,2],tol=2],lda", "contrast=a[x=[b,c],y=[d,e]],a_vs_b"],
            {
                "estimator": ("svc[dual=true,grid.C=[1,2],tol=2]", "lda"),
                "contrast": ("a[x=[b,c],y=[d,e]]", "a_vs_b"),
            },
        ),
    ],
)
def test_conditions_are_read_as_a_run_writes_them(words, params):
    assert parse_conditions(words) == params


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["subjct=2"], "'subjct=2'.*Did you mean 'subject'"),
        (["svc"], "expected NAME=VALUE"),
        (["subject="], "expected NAME=VALUE"),
        (["subject=1,,2"], "expected NAME=VALUE"),
        (["subject=1", "subject=2"], "subject is given twice.*subject=VALUE,VALUE"),
        (["status=KILLED"], "status=KILLED.*: --status KILLED"),
        (["Status=failed,killed"], ": --status failed,killed"),
        (["sweep=latest"], ": --sweep latest"),
        (["experiment=haxby decoding"], ": --experiment 'haxby decoding'"),
    ],
)
def test_conditions_that_select_nothing_are_refused(words, message):
    with pytest.raises(UsageError, match=message):
        parse_conditions(words)


def test_statuses_are_those_of_runs():
    assert parse_statuses("failed,KILLED") == ("FAILED", "KILLED")
    with pytest.raises(UsageError, match=r"'--status FINISH'.*Did you mean 'FINISHED'"):
        parse_statuses("finish")


def test_sweeps_come_with_their_facts_the_newest_first(uri):
    new, middle, old = list_sweeps(uri)
    assert [sweep.identifier for sweep in (new, middle, old)] == [NEW, MIDDLE, OLD]
    assert new.ended is None
    assert new.experiments == ("haxby decoding", "simulated decoding")
    assert (middle.ended - middle.started).total_seconds() == 2 * 3600 + 5 * 60
    assert middle.started == datetime.fromisoformat("2026-11-20T08:00:00+00:00")
    assert middle.counts == {"total": 2, "finished": 1, "skipped": 0, "failed": 1}
    assert [sweep.identifier for sweep in list_sweeps(uri, "simulated decoding")] == [NEW]


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        (RunQuery(sweep=NEW[:-1] + "d"), UsageError, f"the newest are {NEW}, .*Did you mean '{NEW}'"),
        (RunQuery(sweep="lates"), UsageError, "Did you mean 'latest'"),
        (RunQuery(experiment="haxby decodin"), TrackingError, "Did you mean 'haxby decoding'"),
        (RunQuery(params={"cv": ("a'b\"c",)}), UsageError, "both kinds of quotes"),
        (
            RunQuery(params={name: tuple(map(str, range(20))) for name in ("cv", "roi")}),
            UsageError,
            "400 combinations.*at most 200",
        ),
    ],
)
def test_query_that_the_store_cannot_answer_is_one_message(uri, query, error, message):
    with pytest.raises(error, match=message) as caught:
        select_runs(uri, query, limit=5)
    assert "\n" not in str(caught.value)


def test_comparison_of_a_sweep_has_its_runs_alone_the_best_first(uri):
    comparison = compare_runs(uri, RunQuery(sweep="latest"))
    assert comparison.sweep == NEW
    assert comparison.runs["name"].tolist() == ["a", "e", "g"]
    same, varying = comparison.split_params()
    assert varying == ["dataset", "subject"]
    assert same["estimator"] == "svc"
    assert comparison.view_columns() == ["dataset", "subject", "test_accuracy_mean"]


def test_list_has_times_and_reasons(uri):
    table = list_runs(uri, RunQuery()).runs.set_index("name")
    assert table.loc["a", "seconds"] == 90
    assert table.loc["a", "started"].timestamp() == NOON / 1000
    assert table.loc["g", "seconds"] > 0, "a run that still runs has taken its time up to now"
    assert table.loc["d", "error"] == "labels.txt: 'shoe' has no volumes"
    assert table["error"].astype(bool).sum() == 1


# The verbs --------------------------------------------------------------------------------------------------


@pytest.fixture
def verb(folder, capsys):
    """Return a function that runs a verb on the store, and returns its status and what it printed."""

    def run(*arguments):
        status = run_verb([arguments[0], "--folder", os.fspath(folder), *arguments[1:]])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def rows(text):
    return [re.split(r"\s*│\s*", line.strip("│ ")) for line in text.splitlines() if line.startswith("│")]


def test_runs_says_once_what_is_the_same(verb):
    status, out, _ = verb("runs", "estimator=svc", "--status", "FINISHED")
    assert status == 0
    assert "status=FINISHED" in out.splitlines()[0]
    assert "estimator=svc" in out.splitlines()[0]
    assert [row[1:4] for row in rows(out)] == [
        ["simulated", "1", "0.700 ± 0.125"],
        ["haxby", "2", "0.800 ± 0.125"],
        ["haxby", "1", "0.900 ± 0.125"],
    ]
    assert [row[4] for row in rows(out)] == ["1 min 30 s"] * 3


def test_runs_names_the_run_so_that_it_can_be_found(verb, uri):
    (run,) = select_runs(uri, RunQuery(params={"estimator": ("lda",)}), 5).runs
    _, out, _ = verb("runs", "--failed")
    assert run.info.run_id[:8] in [row[-1] for row in rows(out)]
    assert "labels.txt: 'shoe' has no volumes" in out
    _, out, _ = verb("runs", "--status", "FAILED")
    assert "shoe" not in out


@pytest.mark.parametrize("verb_name", ["runs", "compare"])
def test_failed_means_every_run_that_did_not_finish_and_has_ended(verb, uri, verb_name):
    ended = select_runs(uri, RunQuery(statuses=("FAILED", "KILLED")), 5).runs
    assert {run.info.status for run in ended} == {"FAILED", "KILLED"}
    status, out, _ = verb(verb_name, "--failed")
    assert status == 0
    assert len(rows(out)) == len(ended)
    assert {cell for row in rows(out) for cell in row} >= {"FAILED", "KILLED", "lda", "O'Hara"}


def test_runs_failed_has_a_reason_for_every_run(verb, uri):
    _, out, _ = verb("runs", "--failed")
    for run in select_runs(uri, RunQuery(statuses=("FAILED", "KILLED")), 5).runs:
        reason = out.partition(f"\n{run.info.run_id[:8]} ")[2].splitlines()[1]
        expected = run.data.tags.get("harness.error", "no reason was stored")
        assert expected in reason


FILTERS = [
    [],
    ["subject=1"],
    ["estimator=svc,lda", "dataset=haxby"],
    ["--status", "FINISHED"],
    ["--status", "killed,failed", "subject=1,2"],
    ["--failed"],
    ["--sweep", "latest", "dataset=simulated"],
    ["--experiment", "haxby decoding", "cv=logo"],
    ["--most", "2", "subject=1"],
    ["estimator=svm"],
    ["subjct=1"],
    ["status=KILLED"],
    ["--status", "DONE"],
    ["--sweep", "20200101-000000-00000000"],
    ["--experiment", "haxby"],
]


@pytest.mark.parametrize("filters", FILTERS, ids=" ".join)
def test_compare_and_runs_select_the_same_runs(verb, tmp_path, filters):
    found = {}
    for name in ("runs", "compare"):
        file = tmp_path / f"{name}.csv"
        status, out, err = verb(name, *filters, "--csv", str(file))
        table = pd.read_csv(file)["run_id"].tolist() if status == 0 and "no such runs" not in out else []
        hints = [line for line in out.splitlines() if "of the newest runs:" in line]
        found[name] = (status, err, sorted(table), hints)
    assert found["compare"] == found["runs"]


def test_listing_says_that_more_runs_match(verb):
    _, out, _ = verb("runs", "--most", "3")
    assert len(rows(out)) == 3
    assert "more than 3 runs match" in out
    assert "--most" in out
    _, out, _ = verb("compare", "--most", "3")
    assert "more than 3 runs match" in out
    _, out, _ = verb("runs", "--most", "7")
    assert "more" not in out


def test_sweeps_are_listed_with_counts_and_time(verb, tmp_path):
    status, out, _ = verb("runs", "--sweeps", "--csv", str(tmp_path / "sweeps.csv"))
    assert status == 0
    new, middle, old = rows(out)
    assert [new[0], middle[0], old[0]] == [NEW, MIDDLE, OLD]
    assert new[3].startswith("not ended")
    assert middle[2:] == ["2 h 05 min", "1 finished, 1 failed", "python -m harness -m estimator=logistic,lda"]
    assert old[2:4] == ["1 min 40 s", "2 finished"]
    assert pd.read_csv(tmp_path / "sweeps.csv")["sweep"].tolist() == [NEW, MIDDLE, OLD]


def test_table_of_runs_is_written(verb, tmp_path):
    status, out, _ = verb("runs", "--sweep", "latest", "--csv", str(tmp_path / "runs.csv"))
    assert status == 0
    assert f"sweep {NEW}" in out
    table = pd.read_csv(tmp_path / "runs.csv")
    assert table["name"].tolist() == ["g", "e", "a"]
    assert table["test_accuracy_mean"].tolist()[1:] == [0.7, 0.9]


def test_values_that_no_run_has_are_answered_with_those_there_are(verb):
    status, out, _ = verb("runs", "estimator=svm", "subject=1")
    assert status == 0
    assert "no such runs" in out
    assert (
        "estimator of the newest runs: O'Hara, lda, logistic[C=1,tol=2], svc. Did you mean estimator=svc?"
        in out
    )
    assert "subject" not in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["runs", "subjct=1"], 2, "Did you mean 'subject'"),
        (["runs", "--status", "DONE"], 2, "expected one of: FINISHED, FAILED, KILLED, RUNNING"),
        (["runs", "--sweep", "20200101-000000-00000000"], 2, "no such sweep"),
        (["compare", "--sweep", "20200101-000000-00000000"], 2, "no such sweep"),
        (["runs", "--sweeps", "subject=1"], 2, "leave one of them out"),
        (["runs", "--sweeps", "--sweep", "latest"], 2, "leave one of them out"),
        (["runs", "--csv", "/dev/null/runs.csv"], 2, "choose another file"),
        (["ui", "--sweep", "20200101-000000-00000000"], 2, "no such sweep"),
    ],
)
def test_bad_requests_are_one_message(verb, arguments, status, message):
    found, _, err = verb(*arguments)
    assert found == status
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("verb", "status", "message"),
    [("runs", 1, "no runs yet"), ("ui", 1, "no runs yet"), ("relocate", 2, "it is not a run store")],
)
def test_folder_without_a_store_is_one_message(tmp_path, capsys, verb, status, message):
    assert run_verb([verb, "--folder", str(tmp_path)]) == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--most", "0"], ["--most", "many"], ["--failed", "--status", "KILLED"], ["--failed", "--sweeps"]],
)
def test_flags_that_make_no_sense_are_refused(verb, arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        verb("runs", *arguments)
    assert "error: argument" in capsys.readouterr().err


# Comparisons and machine-readable output --------------------------------------------------------------------

MODES = (["runs"], ["runs", "--sweeps"], ["compare"], ["compare", "--pivot", "estimator,subject"])


@pytest.mark.parametrize("arguments", MODES, ids=" ".join)
def test_json_is_all_of_standard_output(verb, tmp_path, arguments):
    status, out, err = verb(*arguments, "--json", "--csv", os.fspath(tmp_path / "table.csv"))
    assert status == 0
    assert json.loads(out)
    assert err.startswith("table ")


@pytest.mark.parametrize(
    "arguments", [*MODES[:1], *MODES[2:], ["compare", "by=estimator"], ["compare", "--chance"]]
)
def test_json_without_runs_is_valid_and_the_hint_is_on_standard_error(verb, arguments):
    status, out, err = verb(*arguments, "--json", "estimator=svm")
    assert status == 0
    assert not any(json.loads(out).get(name) for name in ("runs", "comparisons", "means"))
    assert err.startswith("estimator of the newest runs: ")


def test_json_has_the_runs_and_null_for_undefined_scores(verb):
    _, out, _ = verb("runs", "--json")
    listed = {run["name"]: run for run in json.loads(out)["runs"]}
    assert (listed["a"]["test_accuracy_mean"], listed["a"]["status"]) == (0.9, "FINISHED")
    assert listed["d"]["test_accuracy_mean"] is None
    assert datetime.fromisoformat(listed["a"]["started"]).timestamp() == NOON / 1000


def test_a_pivot_has_the_mean_score_of_its_runs(verb):
    _, out, _ = verb("compare", "--pivot", "estimator,subject", "dataset=haxby", "--json")
    pivot = json.loads(out)
    assert pivot["means"] == [
        {"estimator": "logistic[C=1,tol=2]", "1": 0.95, "2": None},
        {"estimator": "svc", "1": 0.9, "2": 0.8},
    ]
    assert pivot["n_without"] == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["by="], 2, "by= names no key"),
        (["by=cv"], 2, "by=cv is refused"),
        (["by=estimatr"], 2, "Did you mean 'estimator'"),
        (["by=roi", "by=cv"], 2, "by is given 2 times"),
        (["by=roi", "--chance"], 2, "by=roi and --chance are two tables"),
        (["by=estimator", "--score", "selected_accuracy"], 2, "choose a test score"),
        (["by=estimator", "estimator=svc"], 1, "all of them have estimator=svc"),
        (["--score", "test_roc_auc"], 2, "add one of them"),
        (["--score", ","], 2, "add one of them"),
        (["--pivot", "estimator"], 2, "expected two parameters"),
        (["--pivot", "estimator,scheme"], 2, "unknown parameter '--pivot estimator,scheme'"),
        (["--pivot", "estimator,cv", "--score", "accuracy"], 2, "Did you mean 'test_accuracy'"),
        (["--pivot", "estimator,cv", "--score", "a,b"], 2, "name one"),
        (["--chance", "--score", "accuracy"], 2, "Did you mean 'test_accuracy'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_comparisons_that_cannot_be_made_are_one_message(verb, arguments, status, message):
    found, out, err = verb("compare", *arguments)
    assert (found, out) == (status, "")
    assert message in err
    assert err.count("\n") == 1


def test_by_belongs_to_compare(verb):
    status, _, err = verb("runs", "by=estimator")
    assert status == 2
    assert "compare by=estimator" in err


def test_the_view_of_a_sweep_has_parameters_that_mlflow_knows():
    runs = pd.DataFrame({"cv": ["a", "b"], "folds": ["5", "12"], "test_accuracy_mean": [0.5, 0.75]})
    assert RunTable(runs).split_params() == ({}, ["cv", "folds"])
    assert RunTable(runs).view_columns() == ["cv", "test_accuracy_mean"]


def test_a_run_without_folds_makes_no_column_of_their_number():
    runs = pd.DataFrame({"cv": ["a", ""], "folds": ["5", ""], "roi": ["", ""]})
    assert RunTable(runs).split_params() == ({"folds": "5"}, ["cv"])
