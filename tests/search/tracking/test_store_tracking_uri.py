from __future__ import annotations

from pathlib import Path

import pytest

from search.tracking.store import make_uri_absolute


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        ("sqlite:///my.db", "sqlite:///{cwd}/my.db"),
        ("sqlite:////abs/my.db", "sqlite:////abs/my.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite:///", "sqlite:///"),
        ("sqlite:///{cwd}/%C3%BC%20b/my.db", "sqlite:///{cwd}/ü b/my.db"),  # as MLflow writes its own default
        ("sqlite:///{cwd}/50%25/my.db", "sqlite:///{cwd}/50%25/my.db"),
        ("http://host:5000", "http://host:5000"),
        ("file:runs", "file://{cwd}/runs"),
        ("file:///abs/runs", "file:///abs/runs"),
        ("./runs", "file://{cwd}/runs"),
        ("databricks", "databricks"),
        ("postgresql://u:p@host/db", "postgresql://u:p@host/db"),
    ],
)
def test_relative_stores_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, resolved: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ü b", "50%", "50%25"):
        (tmp_path / name).mkdir()
    assert make_uri_absolute(given.format(cwd=tmp_path)) == resolved.format(cwd=tmp_path)
