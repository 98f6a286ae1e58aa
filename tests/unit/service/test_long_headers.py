"""Headers whose reading would cost more than their request is worth."""

from __future__ import annotations

import pytest

from service.errors import NotAcceptable, UnsupportedMediaType
from service.form import Call, refuse_headers

JSON = "application/json"


@pytest.mark.parametrize(
    ("control", "fault", "error"),
    [
        (Call(b"", accept=f"{JSON},{'a/b,' * 100}"), Call(b"", accept=f"{JSON},{'a/b,' * 2000}"), NotAcceptable),
        (
            Call(b"", content_type=f"{JSON};a={'x' * 100}"),
            Call(b"", content_type=f"{JSON};a={'x' * 7900}"),
            UnsupportedMediaType,
        ),
    ],
    ids=["Accept", "Content-Type"],
)
def test_a_long_header_is_refused_unread(control, fault, error):
    refuse_headers(control, [JSON], [JSON])
    with pytest.raises(error):
        refuse_headers(fault, [JSON], [JSON])
