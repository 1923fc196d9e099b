"""Directories of pages: what is replaced."""

import pytest

from harness.errors import UsageError
from harness.report.page_directory import check_page_directory


def test_a_page_is_replaced_only_next_to_its_record(tmp_path):
    check_page_directory(tmp_path / "absent", "report.json", "files")
    check_page_directory(tmp_path, "report.json", "files")
    (tmp_path / "index.html").write_text("")
    with pytest.raises(UsageError, match="is another page"):
        check_page_directory(tmp_path, "report.json", "files")
    (tmp_path / "report.json").write_text('{"status": 1}')
    with pytest.raises(UsageError, match="is another page"):
        check_page_directory(tmp_path, "report.json", "files")
    (tmp_path / "report.json").write_text('{"files": []}')
    check_page_directory(tmp_path, "report.json", "files")
