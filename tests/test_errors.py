"""`uvws.errors` and `uvws.states`: what the exceptions are, and how the states read."""

from __future__ import annotations

import pickle

import pytest

from uvws import errors
from uvws.headers import Headers
from uvws.states import State

BUILTINS = [
    (errors.ConnectionClosed, ConnectionError),
    (errors.ConnectTimeout, TimeoutError),
    (errors.InvalidURL, ValueError),
    (errors.HandshakeError, Exception),
    (errors.MessageTooBig, Exception),
    (errors.TLSError, Exception),
    (errors.WrongThread, RuntimeError),
    (errors.InvalidState, RuntimeError),
]


@pytest.mark.parametrize(("kind", "builtin"), BUILTINS)
def test_every_error_is_caught_as_ours_and_as_pythons(
    kind: type[errors.Error], builtin: type[Exception]
) -> None:
    for caught in (kind, errors.Error, builtin):
        with pytest.raises(caught, match=r"^what happened$"):
            raise kind("what happened")


@pytest.mark.parametrize(("kind", "builtin"), BUILTINS)
def test_every_error_survives_pickling(kind: type[errors.Error], builtin: type[Exception]) -> None:
    copied = pickle.loads(pickle.dumps(kind("what happened")))
    assert type(copied) is kind
    assert str(copied) == "what happened"


def test_a_handshake_error_has_the_responses_status_and_headers() -> None:
    headers = Headers([("Location", "/x")])
    error = errors.HandshakeError("redirected", status=302, headers=headers)
    assert (error.status, error.headers) == (302, headers)
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.status, copied.headers) == ("redirected", 302, headers)


def test_a_handshake_error_without_a_response_has_no_status() -> None:
    error = errors.HandshakeError("connection refused")
    assert error.status is None
    assert error.headers is None


def test_a_tls_error_has_openssls_words_and_numbers() -> None:
    error = errors.TLSError("refused", reason="certificate has expired", verify_code=10, alert=45)
    copied = pickle.loads(pickle.dumps(error))
    for each in (error, copied):
        assert str(each) == "refused"
        assert (each.reason, each.verify_code, each.alert) == ("certificate has expired", 10, 45)
    plain = errors.TLSError("ssl_key holds no usable private key in PEM format")
    assert (plain.reason, plain.verify_code, plain.alert) == (None, None, None)


def test_the_states_are_strings_in_lower_case() -> None:
    names = ["connecting", "connected", "closing", "closed", "destroyed"]
    assert [state.value for state in State] == names
    for state in State:
        assert state == state.name.lower()
        assert str(state) == f"{state}" == state.value


def test_a_state_can_be_had_from_its_string() -> None:
    assert State("closing") is State.CLOSING
    assert {State.CLOSED: 1}["closed"] == 1  # type: ignore[index]
