"""The tutorial on the real subject 1, against nilearn's own results, through the command line."""

import json

import pytest

from processes import harness

# By section: the names of a result in ../shared/golden, of the quantity, and its precision.
# liblinear's coefficients are compared as in test_golden.py.
EXACTLY, RELATIVE = {"tolerance": 1e-9}, {"relative": 1e-4}
RESULTS = {
    "fit_on_all": [("n_samples", "n_samples", {}), ("train_accuracy", "train_accuracy", EXACTLY)],
    "holdout30": [("holdout30_accuracy", "test_accuracy", EXACTLY)],
    "kfold5": [("kfold5_accuracy", "test_accuracy", EXACTLY)],
    "stratified5": [("cv5_accuracy", "selected_accuracy", EXACTLY), ("cv5_C", "best_C", EXACTLY)],
    "leave_one_run_out": [
        ("logo_roc_auc", "selected_roc_auc", EXACTLY),
        ("logo_roc_auc_C", "best_C", EXACTLY),
    ],
}
COEFFICIENTS = [
    ("shape", "coef_shape", {}),
    ("norm", "coef_norm", RELATIVE),
    ("first5", "coef_first", RELATIVE),
    ("intercept", "intercept", RELATIVE),
]
ROI = {"vt577": "vt", "slice530": "brain"}
BY_ACCURACY = {
    "leave_one_run_out": [
        ("logo_accuracy", "selected_accuracy", EXACTLY),
        ("logo_accuracy_C", "best_C", EXACTLY),
    ]
}


def to_published(golden, name, results, coefficients, **settings):
    """Return nilearn's results in the form of ``--published``."""
    expected, dummy = golden[name, ("face", "cat"), "svc"], golden[name, ("face", "cat"), "dummy_classifier"]

    def entries(source, rows):
        return {
            quantity: {"value": source[key]} | (precision if source[key] is not None else {})
            for key, quantity, precision in rows
        }

    sections = {section: entries(expected, rows) for section, rows in results.items()}
    if coefficients is not None:
        sections["coefficients"] = entries(expected[coefficients], COEFFICIENTS)
        sections["dummy"] = entries(dummy, [("logo_roc_auc", "selected_roc_auc", EXACTLY)])
    return {
        "source": "nilearn's Decoder on the real subject 1",
        "settings": {"dataset": "haxby", "subject": 1, "roi": ROI[name], **settings},
        "sections": sections,
    }


@pytest.fixture(scope="module")
def run_tutorial(tmp_path_factory, shared_data):
    """Return a function that runs the tutorial on subject 1, and returns exit status and cells."""
    directory = tmp_path_factory.mktemp("tutorial")

    def run(published, folder, *overrides):
        file = directory / "published.json"
        file.write_text(json.dumps(published))
        data = ["dataset=haxby", f"dataset.data_dir={shared_data / folder}", "subject=1", "figures=off"]
        process = harness(directory, "tutorial", *data, *overrides, "--json", "--published", str(file))
        assert process.stdout, process.stderr
        return process.returncode, json.loads(process.stdout)["cells"]

    return run


@pytest.mark.slow
def test_every_value_of_subject_1_equals_nilearn(run_tutorial, golden):
    published = to_published(golden, "vt577", RESULTS, "logo_roc_auc_coef")
    status, cells = run_tutorial(published, "haxby2001-vt")
    # 2 + 1 + 5 + 10 + 24 values per fold and run, 4 of the coefficients, 12 of the dummy
    assert len(cells) == 58
    assert {cell["verdict"] for cell in cells} == {"equal"}
    assert status == 0
    # With the accuracy in the place of the area under the curve.
    by_accuracy = to_published(golden, "vt577", BY_ACCURACY, None, scoring="accuracy")
    status, cells = run_tutorial(by_accuracy, "haxby2001-vt", "scoring=accuracy")
    assert len(cells) == 24
    assert {cell["verdict"] for cell in cells} == {"equal"}
    assert status == 0


@pytest.mark.slow
def test_every_value_of_a_slice_equals_nilearn_with_the_exact_solver(run_tutorial, golden):
    published = to_published(golden, "slice530", RESULTS, "logo_roc_auc_coef")
    status, cells = run_tutorial(published, "haxby2001-slice", "roi=brain", "estimator=svc")
    assert len(cells) == 58  # also those of the dummy, which keeps its estimator
    assert {cell["verdict"] for cell in cells} == {"equal"}
    assert status == 0
