from __future__ import annotations

import sys

import pytest

from load.identity import RENEWED_SECONDS, Identity, TokenError

COUNT = (
    "import sys, pathlib; p = pathlib.Path(sys.argv[1]); n = len(p.read_text()) + 1; p.write_text('x' * n); print(n)"
)


def test_nobody_asks_without_a_token():
    assert Identity().headers() == {}
    assert Identity("abc").headers() == {"Authorization": "Bearer abc"}


def test_token_is_kept_and_renewed_before_it_expires(tmp_path):
    (tmp_path / "count").write_text("")
    now = [0.0]
    identity = Identity(command=[sys.executable, "-c", COUNT, str(tmp_path / "count")], clock=lambda: now[0])

    assert [identity.headers()["Authorization"] for _ in range(3)] == ["Bearer 1"] * 3
    now[0] = RENEWED_SECONDS + 1
    assert identity.headers()["Authorization"] == "Bearer 2"


@pytest.mark.parametrize("program", ["print()", "raise SystemExit('not logged in')"], ids=["nothing", "fails"])
def test_command_that_gives_none_is_one_line(program: str):
    with pytest.raises(TokenError, match=r"^.*; log in, or give a token in LOAD_TOKEN$"):
        Identity(command=[sys.executable, "-c", program]).headers()


def test_command_that_is_missing_is_told():
    with pytest.raises(TokenError, match="no-such-program"):
        Identity(command=["no-such-program"]).headers()
