"""Where MLflow's store lies, independent of the working directory: Ray gives each trial another one."""

from __future__ import annotations

from pathlib import Path


def make_uri_absolute(uri: str) -> str:
    """Returns a tracking URI with its path, if relative, made absolute against the working directory."""
    if uri.startswith("sqlite:///"):
        database = uri[len("sqlite:///") :]
        in_memory = database in ("", ":memory:")
        return uri if in_memory else f"sqlite:///{Path(database).absolute()}"
    if uri.startswith("file:") and not uri.startswith("file:/"):
        return Path(uri[len("file:") :]).absolute().as_uri()
    if "://" not in uri and not uri.startswith(("databricks", "file:")):
        return Path(uri).absolute().as_uri()
    return uri
