"""The tutorial: its sections, the plan of its sweep, and the published values in the package."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from harness.app.composition import compose_job, composing, list_studies
from harness.app.inspection import write_inspection
from harness.app.overrides import quote_override
from harness.app.sweep_plan import exclude_groups, plan_studies, read_studies
from harness.app.tutorial import (
    FIXED,
    SECTIONS,
    PlannedTutorial,
    name_tutorial,
    parse_section_page,
    plan_tutorial,
    read_published_values,
    read_section_pages,
)
from harness.app.verbs import run_verb
from harness.errors import DataError, UsageError

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "experiments" / "tutorial"


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The plan with an estimator, a subject and a data set typed, made in an empty directory."""
    with pytest.MonkeyPatch.context() as patched, composing():
        patched.chdir(tmp_path_factory.mktemp("plan"))
        return plan_tutorial(
            [quote_override(word) for word in ("estimator=lda", "subject=3", "dataset=haxby")]
        )


def words_of(planned, section):
    return dict(word.lstrip("+").split("=") for word in planned.plan.jobs[planned.jobs[section]])


def test_every_section_has_a_study_a_page_and_published_values():
    assert {file.stem for file in PAGES.glob("*.yaml")} == set(SECTIONS)
    assert {file.stem for file in PAGES.glob("*.md")} == {"looking", *SECTIONS}
    assert tuple(read_published_values().sections) == SECTIONS
    index = (ROOT / "docs" / "tutorial" / "index.md").read_text()
    assert re.findall(r"experiments/tutorial/(\w+)\.md\)", index) == ["looking", *SECTIONS]


def test_every_page_has_question_command_and_reading():
    for page in read_section_pages():
        command = "inspect" if page.name == "looking" else f"-cn tutorial/{page.name}"
        assert f"\n    python -m harness {command}\n" in (PAGES / f"{page.name}.md").read_text()
        assert page.question.endswith("?")
        assert page.reading
        for text in (page.title, page.question, page.reading, page.published):
            assert not set("*`[]@!") & set(text)
            assert not re.search(r"\.md\b|\.\./", text)


def test_numbers_and_classes_of_the_published_data_are_in_a_paragraph_of_their_own():
    """0.5 is chance, 30 the size of the hold-out, 0 of a decision; the others are versions of nilearn."""
    for page in read_section_pages():
        numbers = set(re.findall(r"\d[\d.]*\d|\d", page.reading))
        assert numbers <= {"0", "0.5", "30", "0.10.4", "0.14.1"}, page.name
        assert not re.search(r"\b(faces?|cats?)\b", page.reading), page.name
    published = {page.name: page.published for page in read_section_pages()}
    assert published["leave_one_run_out"].startswith("the eighth run of subject 2, at 0.407,")
    assert published["dummy"].endswith("and 0.611 if it shows cat first.")


def test_images_and_links_are_left_out_of_the_text_of_a_section():
    page = parse_section_page(
        "own",
        "# A `mask` ![M](m.png)\n\n    python -m harness\n\n"
        "**Question.** Which [long\nregion](a.md#b) is **it**?\n\n![Mask](../m.png)\n\n"
        "**How to read it.** See [the *audit*](a.md). ![A\nmap](m.png)\n\n![Map](n.png)\n",
    )
    assert (page.title, page.question, page.reading) == (
        "A mask",
        "Which long region is it?",
        "See the audit.",
    )


def test_links_and_pictures_of_the_pages_lead_to_files_of_the_repository():
    """From where the page is, as on GitHub; the site includes the pages in docs/tutorial."""
    for page in PAGES.glob("*.md"):
        links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
        assert links, page
        for link in links:
            assert (page.parent / link).is_file(), (page, link)


def test_published_values_of_the_package_are_those_of_the_source(shared_data):
    file = shared_data.parent / "seed" / "tutorial_expected.json"
    if not file.is_file():
        pytest.skip(f"{file} is absent")
    source = json.loads(file.read_text())
    sections = read_published_values().sections
    values = {(name, value.quantity): value.values for name in sections for value in sections[name]}
    expected = {
        ("fit_on_all", "class_order"): source["class_order"],
        ("fit_on_all", "label_sequence"): source["label_sequence_216"],
        ("fit_on_all", "train_accuracy"): [source["train_accuracy"]],
        ("holdout30", "test_accuracy"): [source["holdout30_accuracy"]],
        ("kfold5", "test_accuracy"): source["kfold5_accuracy"],
        ("stratified5", "best_C"): source["stratified5_best_C"],
        ("leave_one_run_out", "selected_roc_auc"): source["logo_roc_auc_svc"],
        ("coefficients", "coef_shape"): source["coef_shape"],
        ("coefficients", "coef"): source["coef_svc_logo"],
        ("dummy", "selected_roc_auc"): source["logo_roc_auc_dummy"],
    }
    for place, found in expected.items():
        assert values[place] == tuple(found), place


def test_jobs_that_sections_share_run_once(planned):
    assert len(planned.plan.jobs) == 6
    assert planned.jobs["leave_one_run_out"] == planned.jobs["coefficients"]
    assert planned.jobs["coefficients"] == planned.jobs["predicted_volumes"]
    assert planned.plan.experiments == ("haxby decoding",)


def test_a_typed_override_takes_the_place_of_the_sections_value(planned):
    decoders = {words_of(planned, section)["estimator"] for section in SECTIONS if section != "dummy"}
    assert decoders == {"lda"}
    assert {words_of(planned, section)["subject"] for section in SECTIONS} == {"3"}
    assert words_of(planned, "fit_on_all")["cv.n_splits"] == "10"
    # What the values are compared with does not change.
    assert planned.expected["dummy"]["estimator"] == "dummy"
    assert planned.expected["leave_one_run_out"]["estimator"] == "svc_liblinear"
    assert planned.expected["fit_on_all"]["cv"] == "stratified5[n_splits=10]"
    assert planned.expected["stratified5"]["scoring"] == "accuracy"


def test_a_typed_estimator_is_not_that_of_the_baseline(planned):
    assert words_of(planned, "dummy") == {
        "estimator": "dummy",
        "cv": "logo",
        "subject": "3",
        "dataset": "haxby",
    }
    assert planned.typed["dummy"] == ["subject=3", "dataset=haxby"]
    assert planned.typed["holdout30"] == ["estimator=lda", "subject=3", "dataset=haxby"]
    typed = ["estimator=lda", "++estimator.grid.C=[1]", "+estimators=1", "subject=3"]
    with composing():
        assert exclude_groups(typed, FIXED["dummy"]) == ["+estimators=1", "subject=3"]


def test_options_of_hydra_are_not_those_of_an_inspection():
    typed = ["subject=3", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "dataset=haxby"]
    with composing():
        assert exclude_groups(typed, FIXED["looking"]) == ["subject=3", "dataset=haxby"]


def test_pages_of_options_with_the_same_name_and_of_other_values_have_different_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recording = SimpleNamespace(dataset="mine", subject=2, bold=Path("bold.nii.gz"))
    published = read_published_values()

    def plan(seed, c):
        options = {
            "dataset": {"_target_": "harness.datasets.simulated.Simulated", "seed": seed},
            "estimator": {"_target_": "sklearn.svm.LinearSVC", "C": c},
        }
        for group, content in options.items():
            (tmp_path / "mine" / group).mkdir(parents=True, exist_ok=True)
            OmegaConf.save(OmegaConf.create(content), tmp_path / "mine" / group / "mine.yaml")
        with composing(tmp_path / "mine"):
            plan, _ = plan_studies({"a": ["estimator=mine"]}, ["dataset=mine"])
            return PlannedTutorial(plan, {"a": 0}, {}, {}), compose_job(["dataset=mine"])

    plans = [plan(0, 1), plan(1, 1), plan(0, 10)]
    names = [name_tutorial(*planned, recording, published) for planned in plans]
    names.append(name_tutorial(*plans[0], recording, replace(published, source="a course")))
    assert len(set(names)) == 4
    assert all(name.startswith("mine_sub-2_face_vs_cat_vt-") for name in names)


@pytest.mark.parametrize(("word", "expected"), [("cv=logo", None), ("cv.n_splits=7", "7")])
def test_an_option_replaces_the_values_below_it(tmp_path, monkeypatch, word, expected):
    monkeypatch.chdir(tmp_path)
    with composing():
        params = {"mine": ["estimator=lda", "cv=stratified5", "++cv.n_splits=10"]}
        plan, _ = plan_studies(params, [quote_override(word)])
    (job,) = plan.jobs
    words = dict(word.lstrip("+").split("=") for word in job)
    assert words["estimator"] == "lda"
    assert words.get("cv.n_splits") == expected


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["subject=1,2", "contrast.conditions=[face,cat]"], "error: 'subject=1,2' has several values"),
        (["subject=range(1,3)", "cv.n_splits=2"], "error: 'subject=range(1,3)' has several values"),
        (["tracking=off"], "stores no runs"),
        (["analysis=searchlight"], "decode one region"),
        (["estimatr=svc"], "Did you mean 'estimator'?"),
        (["--published", "absent.json"], "absent.json cannot be read"),
        (["cv=logo"], "'cv=logo': every section of the tutorial has a cross-validation of its own"),
        (["subject=1", "cv.n_splits=3"], "'cv.n_splits=3': every section"),
        (["--csv", "."], "error: --csv . is a directory; give a file"),
        (["--csv", "absent/cells.csv"], "is not a directory; create it, or"),
    ],
)
def test_a_request_that_the_tutorial_cannot_fulfil_is_one_message(
    tmp_path, monkeypatch, capsys, words, reason
):
    monkeypatch.chdir(tmp_path)
    assert run_verb(["tutorial", *words]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["tutorial"], ["inspect"], ["check"], ["report", "latest"]])
@pytest.mark.parametrize("record", [None, '{"status": "passed"}'])
def test_a_page_of_another_program_is_not_replaced(tmp_path, monkeypatch, capsys, words, record):
    monkeypatch.chdir(tmp_path)
    foreign = tmp_path / "foreign" / "index.html"
    foreign.parent.mkdir()
    foreign.write_text("my page")
    if record is not None:
        for name in ("report.json", "contents.json", "design.json"):
            foreign.with_name(name).write_text(record)
    assert run_verb([*words, "--out", "foreign"]) == 2
    assert f"{foreign} is another page" in capsys.readouterr().err
    assert foreign.read_text() == "my page"


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_reported_before_anything_is_written(
    tiny_subject, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    data = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1"]
    words = ["tracking=server", "tracking.uri=http://127.0.0.1:9"]
    assert run_verb(["tutorial", "--out", "page", *data, *words]) == 1
    assert "127.0.0.1:9" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["simulated", "haxby"])
def test_a_subject_that_does_not_exist_is_not_to_be_downloaded(tmp_path, monkeypatch, capsys, dataset):
    monkeypatch.chdir(tmp_path)
    assert run_verb(["tutorial", f"dataset={dataset}", "subject=9"]) == 1
    started, error = capsys.readouterr().err.splitlines()
    assert started == f"inspecting {dataset} subject 9 ..."
    assert "subjects 1 to 6" in error
    assert "fetch" not in error


def test_an_inspection_before_runs_that_would_fail_is_one_error(tmp_path, monkeypatch, tiny_subject):
    monkeypatch.chdir(tmp_path)
    words = ("dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", "roi=face", "cache=false")
    with composing():
        spec = compose_job([quote_override(word) for word in words])
    with pytest.raises(DataError, match=r"^roi\.mask='face' is neither a mask of haxby subject 1"):
        write_inspection(
            spec, spec.dataset.load(1), (), tmp_path / "page", "python -m harness", decoding_follows=True
        )
    assert not any(tmp_path.iterdir())


def test_an_interruption_before_the_sweep_says_how_to_resume(tmp_path, monkeypatch, capsys):
    def interrupt(typed):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.app.tutorial.plan_tutorial", interrupt)
    assert run_verb(["tutorial"]) == 130
    assert capsys.readouterr().err == "stopped; the same command resumes the tutorial\n"


@pytest.mark.slow
def test_missing_data_are_reported_with_the_command_that_fetches_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_verb(["tutorial", "dataset=haxby", "dataset.data_dir=absent"]) == 1
    assert "python -m harness fetch dataset=haxby" in capsys.readouterr().err


def test_studies_in_directories_are_listed_after_the_others():
    with composing():
        studies = list_studies()
    assert [f"tutorial/{name}" for name in sorted(SECTIONS)] == studies[-len(SECTIONS) :]
    assert "subjects_grid" in studies
    assert not any(name.startswith(("cv/", "dataset/", "hydra/")) for name in studies)


def test_a_study_with_more_than_parameters_is_refused_in_a_common_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    study = {
        "defaults": ["config", {"override estimator": "lda"}, "_self_"],
        "hydra": {"mode": "MULTIRUN", "sweeper": {"params": {"subject": "1,2"}}},
    }
    OmegaConf.save(OmegaConf.create(study), tmp_path / "experiments" / "mine.yaml")
    with composing(), pytest.raises(UsageError, match="the study mine changes estimator outside"):
        read_studies(["mine"])


def test_jobs_of_a_study_that_is_a_sweep_are_all_planned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with composing():
        plan, numbers = plan_studies({"a": ["estimator=dummy"], "b": ["cv=holdout30"]}, ["subject=1,2"])
    assert numbers == {"a": [0, 1], "b": [2, 3]}
    assert len(plan.jobs) == 4
