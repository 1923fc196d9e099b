"""Events, repetition times and brain masks of small BIDS trees are those that PyBIDS finds.

A tree is a list of files; a number after a sidecar's name is its RepetitionTime. PyBIDS indexes every tree
anew, which takes about a quarter of a second: most trees are marked slow.
"""

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from harness.datasets.bids import Bids
from services import requires_all

if requires_all():
    import bids
else:
    bids = pytest.importorskip("bids")

IMAGE = gzip.compress(nib.Nifti1Image(np.ones((1, 1, 1, 3), np.int16), np.eye(4)).to_bytes())
MASK = gzip.compress(nib.Nifti1Image(np.ones((1, 1, 1), np.uint8), np.eye(4)).to_bytes())
DESCRIPTION = {"Name": "A tree", "BIDSVersion": "1.8.0", "GeneratedBy": [{"Name": "fMRIPrep"}]}

TREES = {
    "runs with zeros in the raw data alone, sidecar at the root": """
        task-a_bold.json 2.0
        sub-01/func/sub-01_task-a_run-01_bold.nii.gz
        sub-01/func/sub-01_task-a_run-01_events.tsv
        sub-01/func/sub-01_task-a_run-02_bold.nii.gz
        sub-01/func/sub-01_task-a_run-02_events.tsv
        derivatives/fmriprep/sub-01/func/sub-01_task-a_run-1_space-T1w_desc-preproc_bold.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-a_run-1_space-T1w_desc-brain_mask.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-a_run-2_space-T1w_desc-preproc_bold.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-a_run-2_space-T1w_desc-brain_mask.nii.gz
        """,
    "zeros in the derivatives alone, sidecars of the run, the subject and the root": """
        task-a_bold.json 2.0
        sub-01/sub-01_task-a_bold.json 1.75
        sub-01/func/sub-01_task-a_run-1_bold.json 1.5
        sub-01/func/sub-01_task-a_run-2_bold.json 1.5
        sub-01/func/sub-01_task-a_run-1_bold.nii.gz
        sub-01/func/sub-01_task-a_run-1_events.tsv
        sub-01/func/sub-01_task-a_run-2_bold.nii.gz
        sub-01/func/sub-01_task-a_run-2_events.tsv
        derivatives/fmriprep/sub-01/func/sub-01_task-a_run-01_space-T1w_desc-preproc_bold.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-a_run-01_space-T1w_desc-brain_mask.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-a_run-02_space-T1w_desc-preproc_bold.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-a_run-02_space-T1w_desc-brain_mask.nii.gz
        """,
    "sessions, sidecars at the subject and the session, events at the subject": """
        task-a_bold.json 2.0
        sub-01/sub-01_task-a_bold.json 1.75
        sub-01/sub-01_task-a_events.tsv
        sub-01/ses-01/ses-01_task-a_bold.json 1.5
        sub-01/ses-01/sub-01_ses-01_task-a_bold.json 1.25
        sub-01/ses-02/sub-01_ses-02_task-a_bold.json 1.25
        sub-01/ses-01/func/sub-01_ses-01_task-a_bold.nii.gz
        sub-01/ses-01/func/sub-01_ses-01_task-a_events.tsv
        sub-01/ses-02/func/sub-01_ses-02_task-a_bold.nii.gz
        derivatives/fmriprep/sub-01/ses-01/func/sub-01_ses-01_task-a_space-T1w_desc-preproc_bold.nii.gz
        derivatives/fmriprep/sub-01/ses-01/func/sub-01_ses-01_task-a_space-T1w_desc-brain_mask.nii.gz
        derivatives/fmriprep/sub-01/ses-02/func/sub-01_ses-02_task-a_space-T1w_desc-preproc_bold.nii.gz
        derivatives/fmriprep/sub-01/ses-02/func/sub-01_ses-02_task-a_space-T1w_desc-brain_mask.nii.gz
        """,
    "two tasks, each with its own sidecar and events at the root": """
        task-a_bold.json 2.0
        task-b_bold.json 1.5
        task-a_events.tsv
        task-b_events.tsv
        sub-01/func/sub-01_task-a_bold.nii.gz
        sub-01/func/sub-01_task-b_bold.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-a_space-T1w_desc-preproc_bold.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-a_space-T1w_desc-brain_mask.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-b_space-T1w_desc-preproc_bold.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-b_space-T1w_desc-brain_mask.nii.gz
        """,
    "two spaces, one of them with a resolution, and other images with desc": """
        task-a_bold.json 2.0
        sub-01/func/sub-01_task-a_bold.nii.gz
        sub-01/func/sub-01_task-a_events.tsv
        derivatives/fmriprep/sub-01/func/sub-01_task-a_space-T1w_desc-preproc_bold.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-a_space-T1w_desc-brain_mask.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-a_space-T1w_desc-smoothed_bold.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-a_space-MNI_res-2_desc-preproc_bold.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-a_space-MNI_res-2_desc-brain_mask.nii.gz
        derivatives/fmriprep/sub-01/func/sub-01_task-a_space-MNI_res-2_desc-other_mask.nii.gz
        """,
}
DEFAULT, *SLOW = TREES


def write_tree(root, description):
    """Write a tree; every events file has a condition of its own."""
    for number, line in enumerate(description.split("\n")):
        name, *t_r = line.split() or [""]
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".json"):
            file.write_text(json.dumps({"RepetitionTime": float(t_r[0])}))
        elif name.endswith("events.tsv"):
            file.write_text(f"onset\tduration\ttrial_type\n0\t99\tcondition{number}\n")
        elif name:
            file.write_bytes(MASK if name.endswith("mask.nii.gz") else IMAGE)
    for parent in (root, root / "derivatives" / "fmriprep"):
        (parent / "dataset_description.json").write_text(json.dumps(DESCRIPTION))


def find_with_pybids(root, task, space):
    """Return the events, repetition time and brain mask of every preprocessed image."""
    layout = bids.BIDSLayout(root, derivatives=root / "derivatives" / "fmriprep")
    found = {}
    wanted = {"task": task, "space": space, "desc": "preproc", "suffix": "bold", "extension": ".nii.gz"}
    for image in layout.get(scope="derivatives", **wanted):
        run = {
            key: image.entities[key] for key in ("subject", "session", "task", "run") if key in image.entities
        }
        (raw,) = layout.get(scope="raw", suffix="bold", extension=".nii.gz", **run)
        (mask,) = layout.get(scope="derivatives", suffix="mask", desc="brain", space=space, **run)
        # As PyBIDS itself finds the events of a run in `bids.variables.load_variables`.
        events = layout.get_nearest(
            raw.path,
            extension=".tsv",
            suffix="events",
            full_search=True,
            ignore_strict_entities=["suffix", "extension"],
        )
        found[image.path] = (Path(events), layout.get_metadata(raw.path)["RepetitionTime"], Path(mask.path))
    return found


@pytest.mark.filterwarnings("ignore")  # of PyBIDS and its dependencies
@pytest.mark.parametrize("tree", [DEFAULT, *(pytest.param(tree, marks=pytest.mark.slow) for tree in SLOW)])
def test_events_repetition_time_and_masks_equal_those_of_pybids(tmp_path, tree):
    write_tree(tmp_path, TREES[tree])
    for task in ("a", "b") if "task-b" in TREES[tree] else ("a",):
        for space in ("T1w", "MNI") if "MNI" in TREES[tree] else ("T1w",):
            expected = find_with_pybids(tmp_path, task, space)
            assert len(expected) > 0
            for path, (events, t_r, mask) in expected.items():
                labels = dict(part.split("-") for part in Path(path).name.split("_") if "-" in part)
                one = {"session": labels.get("ses"), "run": labels.get("run")}
                recording = Bids(tmp_path, task=task, space=space, **one).load(1)
                assert recording.bold == Path(path)
                assert (recording.labels_file, recording.t_r) == (events, t_r)
                assert recording.masks["brain"] == mask
                condition = events.read_text().split()[-1]
                assert recording.labels["condition"].tolist() == [condition] * 3
