"""
Read runs with MLflow
=====================

The command line stores every run in MLflow. This example makes two runs as a user would, and reads them
back with MLflow's own client: nothing of harness is needed for that.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

directory = Path(tempfile.mkdtemp())
command = [sys.executable, "-m", "harness", "-m", "estimator=ridge,lda", "figures=off"]
finished = subprocess.run(command, cwd=directory, check=True, capture_output=True)

# %%
# In a terminal, this is::
#
#     python -m harness -m estimator=ridge,lda figures=off
#
# The store is a database in ``mlruns/`` of the current directory. Every run is one row, with choices as
# parameters and scores as metrics:

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # send no usage reports

import mlflow

mlflow.set_tracking_uri(f"sqlite:///{directory / 'mlruns' / 'mlflow.db'}")
runs = mlflow.search_runs(search_all_experiments=True, order_by=["params.estimator"])
print(runs[["params.subject", "params.estimator", "params.cv", "metrics.test_accuracy_mean"]])

# %%
# Tables and images are artifacts of the run. ``folds.csv`` has a row per fold, ``predictions.csv`` a row
# per held-out volume:

import pandas as pd

run = runs.iloc[0]
files = Path(mlflow.artifacts.download_artifacts(run_id=run["run_id"]))
folds = pd.read_csv(files / "folds.csv")
print(folds[["fold", "runs_held_out", "test_accuracy", "test_roc_auc"]])

# %%
# How often each class was predicted, by the class that was shown:

predictions = pd.read_csv(files / "predictions.csv")
print(predictions.groupby("class")["predicted"].value_counts().unstack())

# %%
# The decision values of all held-out volumes, in the order of time: above 0 the decoder predicts the
# contrast's first condition, face.

import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
for condition, rows in predictions.groupby("class"):
    axes.plot(rows["volume"], rows["decision_value"], "o", markersize=3, label=condition)
axes.axhline(0, color="0.3", linestyle=":")
axes.set(xlabel="volume", ylabel="decision value", title=run["tags.mlflow.runName"])
axes.legend()
plt.show()

# %%
# The weights are an image for any program that reads NIfTI.

from nilearn.plotting import plot_glass_brain

weights = files / "weights_face_vs_cat.nii.gz"
plot_glass_brain(weights, colorbar=True, plot_abs=False, title="weights")
plt.show()

# %%
# All files of a run:

print("\n".join(sorted(file.name for file in files.iterdir())))

import shutil

shutil.rmtree(directory)
