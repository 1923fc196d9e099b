"""The tables that verbs write with --csv."""

import pandas as pd
import pytest

from harness.app.verbs.arguments import write_table
from harness.errors import UsageError

TABLE = pd.DataFrame({"run": ["a"], "score": [0.5]})


def test_older_table_stays_if_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    file = tmp_path / "runs.csv"
    file.write_text("older\n")

    def fill_the_disk(self, path, **options):
        path.write_text("run,sc")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fill_the_disk)
    with pytest.raises(UsageError, match=r"--csv .*runs\.csv cannot be written: .*No space left"):
        write_table(file, TABLE)
    assert file.read_text() == "older\n"
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]


def test_table_is_written_to_files_and_devices(tmp_path, capfd):
    write_table(tmp_path / "runs.csv", TABLE)
    assert (tmp_path / "runs.csv").read_text() == "run,score\na,0.5\n"
    with pytest.raises(UsageError, match="No such file or directory"):
        write_table(tmp_path / "none" / "runs.csv", TABLE)
