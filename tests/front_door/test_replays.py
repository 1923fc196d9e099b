"""``replay`` and ``explain`` as processes, from another directory than the run's."""

import json

import pytest

from processes import harness, read_runs


@pytest.mark.slow
def test_run_is_replayed_and_explained_from_another_directory(tmp_path, tiny_subject):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    data = tiny_subject(n_runs=4, planted={"face": (1, 2, 2)}, effect=40)
    words = ["dataset=haxby", f"dataset.data_dir={data}", "subject=1", "figures=off"]
    words += ["inference=permutation", "inference.maps=false", "inference.force=true"]
    words += ["scoring.inner=runs", "inference.processes=1"]
    harness(home, *words, "estimator=ridge", OMP_NUM_THREADS="1")
    harness(home, *words, "estimator=svc", OMP_NUM_THREADS="1")
    store = f"--folder={home / 'mlruns'}"
    # Another number of BLAS threads, another cache, and no configuration that could be read by mistake.
    (elsewhere / "conf" / "estimator").mkdir(parents=True)
    (elsewhere / "conf" / "estimator" / "svc.yaml").write_text("_target_: sklearn.dummy.DummyClassifier\n")
    replayed = harness(
        elsewhere, "replay", "latest", store, OMP_NUM_THREADS="2", HARNESS_CACHE=str(tmp_path / "other")
    )
    assert "replay   identical: every number, to the last bit" in replayed.stdout
    assert "relabellings, about" in replayed.stderr
    assert not (elsewhere / "mlruns").exists()
    _, (newest, oldest) = read_runs(home)
    names = [oldest.info.run_name, newest.info.run_id[:8]]
    explained = harness(elsewhere, "explain", *names, store, "--json")
    found = json.loads(explained.stdout)
    assert [item["name"] for item in found["differences"] if item["part"] == "choice"] == ["estimator"]
    assert found["volumes"]["joined"] == 32
