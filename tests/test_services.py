"""Requirements of tests: if they are missing, tests are skipped, except in CI."""

import pytest

from services import require_data


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_missing_data_fail_in_ci_and_skip_elsewhere(monkeypatch, tmp_path, ci, outcome):
    monkeypatch.setenv("CI", ci)
    require_data(tmp_path)
    with pytest.raises(outcome, match="HARNESS_TEST_DATA"):
        require_data(tmp_path / "absent")
