"""Stored runs written by hand, for tests of reports."""

import json
from datetime import UTC, datetime

import nibabel as nib
import numpy as np
import pandas as pd
import yaml

from harness.tracking.file_digests import write_digests
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import (
    DIGEST_TAG,
    FILES_TAG,
    INFERENCE_TAG,
    PRIMARY_TAG,
    RELABELLINGS_TAG,
    VERSION_TAG,
)

ACCURACIES = (0.5, 0.75, 1.0)
FINDING = {"rule": "runs_split", "verdict": "caution", "evidence": "one of 3 runs.", "reference": "nowhere"}


def make_config(classes=("face", "cat"), **changed):
    """Return a configuration as runs store it."""
    return {
        "dataset": {"_target_": "harness.datasets.simulated.Simulated", "seed": 0},
        "subject": 1,
        "contrast": {"conditions": list(classes)},
        "roi": {"mask": "vt", "screening_percentile": 20.0},
        "signal": {"zscore": "own", "detrend": False, "lag": 0, "average_blocks": False},
        "estimator": {"_target_": "harness.solvers.estimators.ExactLinearSVC", "grid": {"C": [1.0, 10.0]}},
        "cv": {"_target_": "sklearn.model_selection.LeaveOneGroupOut", "incomplete": "refuse"},
        "scoring": {"select": "accuracy", "report": ["accuracy"], "inner": "runs", "inner_folds": 10},
        "inference": {"kind": "none"},
        "seed": 0,
        "engine": "harness",
    } | changed


def write_run(
    directory,
    *,
    classes=("face", "cat"),
    accuracies=ACCURACIES,
    status="FINISHED",
    null=None,
    weights=True,
    subject="1",
    estimator="svc",
    sequential=False,
    name="sub-1 face_vs_cat vt svc logo",
    tags=(),
    **config,
):
    """Write the files of a run with two held-out volumes per class and fold, and return it.

    A run with `null` has the tags of a test with random relabellings, which was to end early if `sequential`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    n = len(accuracies)
    folds = pd.DataFrame(
        {
            "scheme": "logo",
            "fold": range(1, n + 1),
            "runs_held_out": range(n),
            "n_train": 4 * (n - 1),
            "n_test": 4,
            "test_accuracy": accuracies,
        }
    )
    folds.to_csv(directory / "folds.csv", index=False)
    rows = []
    for fold in range(n):
        for number, condition in enumerate(np.repeat(classes, 2)):
            is_wrong = fold == 0 and number == 0
            predicted = classes[-1] if is_wrong else condition
            volume = fold * 100 + number // 2 * 10 + number % 2
            rows.append((volume, fold, fold + 1, condition, condition, predicted, 0.5))
    columns = ["volume", "run", "fold", "condition", "class", "predicted", "decision_value"]
    pd.DataFrame(rows, columns=columns).to_csv(directory / "predictions.csv", index=False)
    (directory / "config.yaml").write_text(yaml.dump(make_config(classes, **config)), encoding="utf-8")
    (directory / "audit.json").write_text(json.dumps([FINDING]))
    contrast = "_vs_".join(classes) if len(classes) < 4 else f"all{len(classes)}"
    if weights:
        names = [contrast] if len(classes) == 2 else [f"{contrast}_{name}" for name in classes]
        for kind in ("weights", "pattern"):
            for place, item in enumerate(names):
                data = np.zeros((5, 6, 4), dtype=np.float32)
                data[1:3, 2:4, 1:3] = np.arange(-4, 4).reshape(2, 2, 2) + place
                nib.save(
                    nib.Nifti1Image(data, np.diag([3.0, 3, 3, 1])),
                    directory / f"{kind}_{item.replace('<', '-').replace('>', '-')}.nii.gz",
                )
    metrics = {"test_accuracy_mean": float(np.mean(accuracies)), "test_accuracy_std": 0.25}
    if null is not None:
        pd.DataFrame({"test_accuracy": null}).to_csv(directory / "null_distribution.csv", index=False)
        metrics["p_value/test_accuracy"] = float(np.mean(np.asarray(null) >= null[0]))
        tested = {INFERENCE_TAG: "random", PRIMARY_TAG: "test_accuracy"}
        tested |= {} if sequential else {RELABELLINGS_TAG: "same"}
        tags = tested | dict(tags)
    return StoredRun(
        uri="sqlite:///none.db",
        artifact_uri=directory.as_uri(),
        run_id=(directory.name.encode().hex() + "0123456789abcdef" * 2)[:32],
        name=name,
        status=status,
        experiment_id="1",
        started=datetime(2026, 1, 2, tzinfo=UTC),
        params={
            "dataset": "simulated",
            "subject": subject,
            "contrast": contrast,
            "roi": "vt",
            "signal": "tutorial",
            "estimator": estimator,
            "cv": "logo",
            "scoring": "accuracy",
            "n_samples": str(4 * n),
            "n_voxels": "8",
            "n_folds": str(n),
        },
        metrics=metrics,
        tags={
            FILES_TAG: write_digests(directory),
            f"{DIGEST_TAG}.bold": "a" * 64,
            f"{VERSION_TAG}.nilearn": "0.14.1",
            **dict(tags),
        },
    )
