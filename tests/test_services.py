"""Requirements of tests: if they are missing, tests are skipped, or fail where all must be there."""

import pytest

from services import require_data


@pytest.mark.parametrize("ci", ["true", ""])
@pytest.mark.parametrize(
    ("value", "outcome"),
    [("true", pytest.fail.Exception), ("false", pytest.skip.Exception), (None, pytest.skip.Exception)],
)
def test_missing_data_fail_where_all_is_required_and_skip_elsewhere(
    monkeypatch, tmp_path, ci, value, outcome
):
    monkeypatch.setenv("CI", ci)  # set by hosted runners, which do not have the data
    monkeypatch.delenv("HARNESS_TEST_REQUIRE_ALL", raising=False)
    if value is not None:
        monkeypatch.setenv("HARNESS_TEST_REQUIRE_ALL", value)
    require_data(tmp_path)
    with pytest.raises(outcome, match="HARNESS_TEST_DATA"):
        require_data(tmp_path / "absent")
