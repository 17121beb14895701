"""Errors between a search and MLflow: outages, which pass, and refusals, which do not."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from search.command_line.paths import hide_password
from search.errors import SearchError

# Answers that a second try cannot change; every other failure may pass.
_PERMANENT_CODES = frozenset(
    {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}
)

# The client's message of a connection that fails names all layers and their arguments: only the last one's is kept.
_CONNECTION_FAILURE = re.compile(r"failed with exception .*\(Caused by .*: (.+?)[\"']\)+")


class TrackingError(SearchError):
    """MLflow refused a record for good: it is malformed, or its run is gone."""


class TrackingUnavailable(TrackingError):
    """MLflow could not be reached or could not write; the same call may succeed later."""


@contextmanager
def translate_errors(action: str) -> Iterator[None]:
    """Turns whatever MLflow and its parts raise into this module's two errors, one line long and without passwords."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        words = _CONNECTION_FAILURE.sub(r"failed: \1", hide_password(" ".join(str(error).split())))[:500]
        text = f"could not {action}: {words or type(error).__name__}"
        is_permanent = getattr(error, "error_code", None) in _PERMANENT_CODES
        if is_permanent or isinstance(error, (TypeError, FileNotFoundError)):
            raise TrackingError(text) from error
        raise TrackingUnavailable(text) from error
