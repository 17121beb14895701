import sqlite3

import pytest
from mlflow.exceptions import MlflowException, RestException

from search.errors import SearchError
from search.tracking.errors import TrackingError, TrackingUnavailable, translate_errors


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "long"}), False),
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "gone"}), False),
        (RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "busy"}), True),
        (MlflowException("API request failed"), True),
        (sqlite3.OperationalError("database is locked"), True),
        (ConnectionRefusedError("refused"), True),
        (FileNotFoundError("no such artifact"), False),
        (TypeError("not a number"), False),
    ],
    ids=lambda value: value.args[0][:30] if isinstance(value, Exception) else "",
)
def test_errors_say_whether_to_try_again(error: Exception, may_pass: bool) -> None:
    with pytest.raises(TrackingError, match="could not log metrics: ") as caught, translate_errors("log metrics"):
        raise error
    assert isinstance(caught.value, TrackingUnavailable) == may_pass
    assert isinstance(caught.value, SearchError) and caught.value.__cause__ is error
    assert str(error).strip() in str(caught.value)


@pytest.mark.parametrize("error", [TrackingError("refused"), TrackingUnavailable("down"), KeyboardInterrupt()])
def test_an_inner_error_and_an_interrupt_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, translate_errors("do the whole"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(("message", "text"), [("", "RuntimeError"), ("  ", "RuntimeError"), ("x" * 900, "x" * 500)])
def test_messages_are_never_empty_and_never_long(message: str, text: str) -> None:
    with pytest.raises(TrackingUnavailable) as caught, translate_errors("connect"):
        raise RuntimeError(message)
    assert str(caught.value) == f"could not connect: {text}"
