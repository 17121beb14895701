"""Paths of the command line."""

from pathlib import Path

import pytest

from search.command_line.paths import DEFAULT_STORAGE, expand_path, hide_password, locate_storage
from search.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is empty"),
        ("a\0b", "null byte"),
        ("\udcff", "surrogates not allowed"),
        ("below/\udcff/a", "surrogates not allowed"),
        ("self", "Symlink loop"),
        ("self/below", "Symlink loop"),
    ],
)
def test_what_is_no_path_is_a_finding(text: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("self").symlink_to("self")
    with pytest.raises(ConfigError, match=f"cannot be used as a path: .*{what}"):
        expand_path(text)


def test_paths_become_absolute_whether_they_are_there_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert expand_path("a/../b") == tmp_path / "b"
    assert expand_path("~/b") == tmp_path / "home" / "b"
    assert expand_path("./~b") == tmp_path / "~b"
    assert locate_storage("s3://bucket/a") == locate_storage(DEFAULT_STORAGE) == tmp_path / DEFAULT_STORAGE


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("mysql://jo:s3cret@host/db", "mysql://jo:***@host/db"),
        ("mysql://jo:s3/cr@et@host:33/db", "mysql://jo:***@host:33/db"),
        *[(uri, uri) for uri in ("http://host:5000/#/a@b", "http://host:5000", "http://user@host:5000/x")],
        ("az://c/a?sig=s3cret&x=1", "az://c/a?sig=***&x=1"),
        ("postgresql://h/db?user=u&password=s3cret", "postgresql://h/db?user=u&password=***"),
        ("cannot open mysql://h/db?PWD=s3cret&ssl=1 now", "cannot open mysql://h/db?PWD=***&ssl=1 now"),
        *[(uri, uri) for uri in ("sqlite:////home/jo@lab.org/mlflow.db", "abfs://data@acct.dfs.core.windows.net/a")],
    ],
)
def test_only_passwords_are_hidden(uri: str, shown: str) -> None:
    assert hide_password(uri) == shown
