"""Tables of runs: the order of searchlights, and the numbers of their chosen correction."""

from harness.tracking.ledger import Outcome
from harness.tracking.run_tables import compare_outcomes


def make_outcome(job, analysis, scores):
    words = {"analysis": analysis, "contrast": "face_vs_cat", "cv": "logo"}
    return Outcome(job=job, status="finished", name=f"run {job}", words=words, scores=scores, run_id=str(job))


def test_the_best_searchlight_is_first_whatever_its_analysis_is_called():
    found = [("a", 0.7), ("b", 0.9), ("c", 0.8)]
    outcomes = [
        make_outcome(number, f"searchlight[{name}]", {"max_score": score, "n_spheres": 5.0})
        for number, (name, score) in enumerate(found)
    ]
    outcomes.insert(0, make_outcome(9, "searchlight[0]", {"n_spheres": 5.0}))
    assert compare_outcomes(outcomes).runs["name"].tolist() == ["run 1", "run 2", "run 0", "run 9"]


def test_threshold_and_smallest_p_are_those_of_the_chosen_correction():
    tested = {"n_spheres": 5.0, "max_score": 0.9, "n_corrected": 2.0, "smallest_p_fwe": 0.5}
    maximum = {"n_corrected/maximum": 0.0, "threshold/maximum": 4.0, "smallest_p_fwe/maximum": 0.5}
    tfce = {"n_corrected/tfce": 2.0, "threshold/tfce": 1234.5, "smallest_p_fwe/tfce": 0.01}
    runs = compare_outcomes(
        [
            make_outcome(1, "searchlight[correction=tfce]", tested | maximum | tfce),
            make_outcome(2, "searchlight", tested | maximum | {"max_score": 0.8, "n_corrected": 0.0}),
        ]
    ).runs
    assert runs["correction"].tolist() == ["tfce", "maximum"]
    assert runs["threshold"].tolist() == [1234.5, 4.0]
    assert runs["smallest_p_fwe"].tolist() == [0.01, 0.5]
    assert runs["n_corrected"].tolist() == [2.0, 0.0]
