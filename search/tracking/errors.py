"""What can go wrong between a search and MLflow: outages, which pass, and refusals, which do not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from search.command_line.paths import hide_password
from search.errors import SearchError

# MLflow's answers that a second try cannot change; every other failure may pass.
_PERMANENT_CODES = frozenset(
    {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}
)

# What the client tells of a connection that fails: of all the layers' names and arguments, the last one's words count.
_CONNECTION_FAILURE = re.compile(r"failed with exception .*\(Caused by .*: (.+?)[\"']\)+")


class TrackingError(SearchError):
    """MLflow refused a record for good: it is malformed, or its run is gone."""


class TrackingUnavailable(TrackingError):
    """MLflow could not be reached or could not write; the same call may succeed later."""


@contextmanager
def translate_errors(action: str) -> Iterator[None]:
    """Turns whatever MLflow and its parts raise into the two errors of this module, told in one line.

    MLflow's own words may hold the address that it asked, with the password in it: that is left out.
    """
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        words = _CONNECTION_FAILURE.sub(r"failed: \1", hide_password(" ".join(str(error).split())))[:500]
        told = f"could not {action}: {words or type(error).__name__}"
        is_permanent = getattr(error, "error_code", None) in _PERMANENT_CODES
        if is_permanent or isinstance(error, (TypeError, FileNotFoundError)):
            raise TrackingError(told) from error
        raise TrackingUnavailable(told) from error
