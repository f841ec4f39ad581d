"""Checksums: hashes that are recorded in click stores and evaluations of users."""

import pytest

from geoclick import files

BOTH = "957e03e392a5b9f4efceb24cdfa3dadba11bca984f69efe831f98c0895e809a7"
"""Of two files: SHA-256 of the hexadecimal SHA-256 of `first` and of `second`, one after the other."""


def test_the_hash_of_several_files_depends_on_contents_and_order_alone(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    assert files.sha256_of_all(iter([first, second])) == BOTH
    assert files.sha256_of_all([second, first]) != BOTH
    moved = first.rename(tmp_path / "c")
    assert files.sha256_of_all([moved, second]) == BOTH
    second.write_bytes(b"other")
    assert files.sha256_of_all([moved, second]) != BOTH


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.sha256_of_all([tmp_path / "missing"])
