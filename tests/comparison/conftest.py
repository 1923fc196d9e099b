"""Stored runs with hand-written folds and predictions."""

import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
import yaml

from harness.tracking.file_digests import write_digests
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import FILES_TAG

FIRST_START = datetime(2026, 11, 21, tzinfo=UTC)
N_FOLDS = 4


@pytest.fixture
def make_stored(tmp_path):
    """Return a function that writes the files of a run and returns it; each run is newer than the last."""
    made = []

    def make(
        scores=(0.5, 0.75, 1.0, 0.75),
        *,
        config=None,
        digests=None,
        status="FINISHED",
        versions=None,
        findings=(),
        volumes=None,
        sizes=(6, 2),
        files=True,
        metrics=None,
        tags=None,
        nulls=None,
        **params,
    ):
        number = len(made)
        home = tmp_path / f"run{number}"
        home.mkdir()
        n_folds = len(scores)
        if files:
            folds = pd.DataFrame({"fold": range(1, n_folds + 1), "n_train": sizes[0], "n_test": sizes[1]})
            folds.assign(test_accuracy=scores, selected_roc_auc=scores).to_csv(
                home / "folds.csv", index=False
            )
            volumes = volumes or [(fold, fold - 1, 10 * fold + i) for fold in folds["fold"] for i in range(2)]
            pd.DataFrame(volumes, columns=["fold", "run", "volume"]).to_csv(
                home / "predictions.csv", index=False
            )
            (home / "audit.json").write_text(json.dumps(list(findings)))
            (home / "config.yaml").write_text(
                yaml.safe_dump(config or {"contrast": {"conditions": ["a", "b"]}})
            )
            if nulls is not None:
                pd.DataFrame({"test_accuracy": nulls}).to_csv(home / "null_distribution.csv", index=False)
        roles = {"bold": "b" * 64, "mask": "m" * 64} | (digests or {})
        found = {"numpy": "2.0"} | (versions or {})
        base = {"dataset": "haxby", "subject": "1", "contrast": "a_vs_b", "roi": "vt", "estimator": "svc"}
        base |= {"cv": "logo", "scoring": "roc_auc", "inference": "none", "n_samples": "8"}
        run = StoredRun(
            uri="sqlite:///none.db",
            artifact_uri=home.as_uri(),
            run_id=f"{number:08d}{'0' * 24}",
            name=f"run {number}",
            status=status,
            experiment_id="1",
            started=FIRST_START + timedelta(minutes=number),
            params=base | params,
            metrics=metrics or {},
            tags={f"harness.digest.{role}": digest for role, digest in roles.items()}
            | {f"harness.version.{name}": version for name, version in found.items()}
            | {FILES_TAG: write_digests(home)}
            | (tags or {}),
        )
        made.append(run)
        return run

    return make


@pytest.fixture
def leak():
    """A finding with which the audit calls a scheme leaky."""
    return {
        "rule": "blocks_split",
        "verdict": "leak",
        "evidence": "4 of 8 blocks on both sides of a split. Use cv=logo.",
        "reference": "",
    }
