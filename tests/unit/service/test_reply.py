"""A reply is a value."""

from __future__ import annotations

import pytest

from service.reply import JSON, PROBLEM, Reply


def test_a_reply_cannot_be_changed():
    reply = Reply(200, (("Content-Type", JSON),), b"{}")
    with pytest.raises(AttributeError):
        reply.status = 500  # type: ignore[misc]
    assert Reply(200, (("Content-Type", "application/json"),), b"{}") == reply


def test_refusals_have_the_content_type_of_rfc_9457():
    assert PROBLEM == "application/problem+json"
