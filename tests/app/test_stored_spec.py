"""A stored configuration is completed from the schema, and only its places can be changed."""

import pytest

from harness.app.composition import compose_request
from harness.app.stored_spec import complete_settings, relocate_settings
from harness.errors import TrackingError, UsageError

pytestmark = pytest.mark.usefixtures("quick_composition")


@pytest.fixture
def settings():
    words = ["dataset=nifti", "++dataset.bold=bold.nii.gz", "++dataset.labels=labels.tsv"]
    return dict(compose_request([*words, "++dataset.masks={vt: vt.nii.gz}"]).config)


def test_settings_of_this_version_are_complete(settings):
    assert complete_settings(settings, "run 1") == (settings, [])


def test_missing_keys_get_the_defaults_of_the_schema(settings):
    stored = {key: value for key, value in settings.items() if key not in ("inference", "engine")}
    stored["signal"] = {key: value for key, value in settings["signal"].items() if key != "lag"}
    completed, notes = complete_settings(stored, "run 1")
    assert completed == settings
    assert [note.partition(",")[0] for note in notes] == [
        "config.yaml has no signal.lag",
        "config.yaml has no inference",
        "config.yaml has no engine",
    ]
    assert notes[0].endswith("is used: 0")


@pytest.mark.parametrize("key", ["subject", "estimator", "contrast", "dataset"])
def test_missing_subject_or_group_is_refused(settings, key):
    del settings[key]
    with pytest.raises(TrackingError, match=f"run 1 has no '{key}'"):
        complete_settings(settings, "run 1")


def test_every_unknown_key_is_named_once(settings):
    settings["wavelets"] = True
    settings["roi"] = settings["roi"] | {"atlas": "aal"}
    with pytest.raises(TrackingError, match=r"has 'wavelets', 'roi\.atlas', which this version"):
        complete_settings(settings, "run 1")


@pytest.mark.parametrize(
    ("key", "value"), [("subject", "two"), ("engine", "spm"), ("roi", 3), ("signal", {"lag": "late"})]
)
def test_value_of_another_type_is_refused(settings, key, value):
    settings[key] = value
    with pytest.raises(TrackingError, match=r"config\.yaml of run 1 cannot be used"):
        complete_settings(settings, "run 1")


def test_text_that_looks_like_an_interpolation_is_not_resolved(settings):
    settings["dataset"] = settings["dataset"] | {"bold": "${oc.env:HOME}/bold.nii.gz"}
    completed, _ = complete_settings(settings, "run 1")
    assert completed["dataset"]["bold"] == "${oc.env:HOME}/bold.nii.gz"


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("dataset.bold=/new/bold.nii.gz", ("dataset", "bold"), "/new/bold.nii.gz"),
        (
            "++dataset.bold='/new/{subject:02d}/r-*.nii'",
            ("dataset", "bold"),
            "/new/{subject:02d}/r-*.nii",
        ),
        ("dataset.bold=[a.nii,b.nii]", ("dataset", "bold"), ["a.nii", "b.nii"]),
        ("dataset.masks.vt=/new/vt.nii", ("dataset", "masks", "vt"), "/new/vt.nii"),
        ("dataset.labels=2001", ("dataset", "labels"), "2001"),
        ("roi.mask=/new/vt.nii.gz", ("roi", "mask"), "/new/vt.nii.gz"),
        ("signal.confounds_file=c.tsv", ("signal", "confounds_file"), "c.tsv"),
        ("inference.processes=3", ("inference", "processes"), 3),
    ],
)
def test_places_can_be_changed(settings, override, path, value):
    changed = relocate_settings(settings, [override])
    found = changed
    for key in path:
        found = found[key]
    assert found == value
    assert {key for key in changed if changed[key] != settings[key]} == {path[0]}


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("estimator=svc", "another run"),
        ("subject=3", "another run"),
        ("dataset._target_=os.system", "another run"),
        ("dataset.t_r=3", "another run"),
        ("dataset.trial_types=[face]", "another run"),
        ("inference.n=5", "another run"),
        ("roi.mask=house", "another mask"),
        ("figures=full", "no effect"),
        ("tracking.folder=x", "no effect"),
        ("inference.processes=many", "number of processes"),
        ("data_dir", "KEY=VALUE"),
        ("dataset.bold=", "KEY=VALUE"),
        ("dataset.bold.x=1", "no such key"),
    ],
)
def test_other_changes_are_refused(settings, override, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        relocate_settings(settings, [override])
    assert override in str(caught.value)
