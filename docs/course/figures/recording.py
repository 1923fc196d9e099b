"""The simulated subject that the figures show, and its blocks."""

import numpy as np
import pandas as pd

from harness import Recording, Simulated
from harness.samples.blocks import find_blocks


def load_recording() -> Recording:
    """Return the simulated subject 2."""
    return Simulated().load(2)


def list_conditions(labels: pd.DataFrame) -> list[str]:
    """Return the conditions without rest, ordered by name."""
    return sorted(set(labels["condition"]) - {"rest"})


def find_spans(conditions: np.ndarray) -> list[tuple[str, int, int]]:
    """Return condition, start and number of volumes of every block of one scanner run but rest."""
    blocks = find_blocks(conditions, np.zeros(len(conditions), dtype=int))
    _, starts, lengths = np.unique(blocks, return_index=True, return_counts=True)
    spans = zip(conditions[starts], starts.tolist(), lengths.tolist(), strict=True)
    return [span for span in spans if span[0] != "rest"]


def select_faces_and_cats() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which volumes show faces or cats, as booleans, and their classes and scanner runs."""
    labels = load_recording().labels
    chosen = labels["condition"].isin(["face", "cat"]).to_numpy()
    return chosen, labels["condition"].to_numpy()[chosen], labels["run"].to_numpy()[chosen]
