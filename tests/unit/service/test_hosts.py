"""A host is one that every server reads alike."""

from __future__ import annotations

import pytest

from service.hosts import is_host

GOOD = ("", "x", "x:", "x:0", "x:80", "x:00080", "x:65535", "127.0.0.1:1", "[::1]", "[::1]:443", "a_b.c-d", "x%20y")
WRONG_PORTS = ("65536", "000080", "4294967376", "9" * 5000, "-1", "+80", " 80", "80 ", "8_0", "0x50", "80:80", "\xb2")


@pytest.mark.parametrize("host", GOOD)
def test_a_host_with_or_without_a_port_is_one(host):
    assert is_host(host.encode())


@pytest.mark.parametrize("port", WRONG_PORTS, ids=lambda port: port[:20])
def test_a_port_that_is_none_makes_it_none(port):
    assert is_host(b"x:80")
    assert not is_host(f"x:{port}".encode("latin-1"))


@pytest.mark.parametrize("host", ["x y", "x/y", "a@x", "[::1", "::1", "x?y", "x#y", "x\\y", "x\xb2", "x\n", "<x>"])
def test_what_belongs_into_no_host_makes_it_none(host):
    assert not is_host(host.encode("latin-1"))
