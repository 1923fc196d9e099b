"""Which keys paired tests compare. Completion reads them, so this module imports nothing else."""

OTHER_VOLUMES = "the held-out volumes differ, so that fold 1 of one run is not fold 1 of the other"
NOT_COMPARED = {
    "cv": f"{OTHER_VOLUMES}; --pivot estimator,cv shows the scores of the schemes, and the audit of each run "
    "says which of them is an estimate of generalisation",
    "analysis": "a decoding of a region and a searchlight answer different questions; compare lists them in "
    "two tables, and explain RUN RUN compares two maps",
    "contrast": f"{OTHER_VOLUMES}; --pivot contrast,estimator shows the scores, and --chance compares each "
    "contrast with its own null distribution",
    "subject": "subjects are the units of a test, not its conditions; --chance tests the scores over "
    "subjects, and by=estimator of several subjects compares estimators across them",
    "dataset": "data sets share no volumes; --pivot dataset,estimator shows the scores",
    "location": "data in several places share volumes only if they are the same data, which have the same "
    "scores; --pivot location,estimator shows them",
    "inference": "a permutation test does not change the score that it tests; --chance prints its p-values",
    "tracking": "the run store does not change a score",
}
"""Keys, or groups of keys, that no paired test can compare, with the reason and what to do instead."""
