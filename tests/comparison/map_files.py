"""Files of searchlights, written by hand."""

import json

import nibabel as nib
import numpy as np

SETTINGS = {
    **{"radius": 6.0, "min_voxels": 1, "scorer": "accuracy", "statistic": "roc_auc"},
    **{"correction": "maximum", "cluster_z": 3.09, "keep_maps": 8},
}


def write_map(
    directory, voxels, scores, shape, affine, contrast="face_vs_cat", space="", settings=(), **record
):
    """Write the score map of a searchlight and its record into a new directory."""
    directory.mkdir()
    voxels = np.asarray(voxels)
    volume = np.zeros(shape)
    volume.ravel()[voxels] = np.nan_to_num(scores)
    nib.save(nib.Nifti1Image(volume, affine), directory / f"searchlight_{contrast}.nii.gz")
    places = {"voxels": voxels, "shape": np.array(shape), "affine": affine, "space": np.array(space or "")}
    np.savez_compressed(directory / "centres.npz", scores=np.asarray(scores, dtype=float), **places)
    content = {
        **{"contrast": contrast, "classes": ["face", "cat"], "class_sizes": {"face": 9, "cat": 9}},
        **{"chance": 0.5, "scores": {}, "n_spheres": len(voxels), "space": space},
        "settings": SETTINGS | dict(settings),
    }
    (directory / "searchlight.json").write_text(json.dumps(content | record))
