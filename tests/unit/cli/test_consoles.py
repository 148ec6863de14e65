"""A console that is followed: nothing twice, nothing left out, and nothing that drives the terminal."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mallee.cli.commands.consoles import _unheard, _write, after

LINES = b"".join(b"line %d\n" % number for number in range(2_000))


@pytest.mark.parametrize(
    ("heard", "said", "new"),
    [
        (b"", b"hello", b"hello"),
        (b"hello", b"hello world", b" world"),
        (b"hello", b"hello", b""),
        (b"the end of it", b"end of it, and more", b", and more"),
        (b"something", b"else", b"else"),
        (LINES[:9_000], LINES[5_000:9_100], LINES[9_000:9_100]),
        (LINES[:9_000], LINES[9_500:], LINES[9_500:]),
    ],
    ids=["all", "grown", "same", "rolled", "other", "long", "gap"],
)
def test_what_is_new_is_told(heard: bytes, said: bytes, new: bytes) -> None:
    assert after(heard, said) == new


async def test_what_a_guest_brings_along_when_it_moves_is_not_told_again() -> None:
    async def written() -> AsyncIterator[bytes]:
        yield b"boot\nlogin: "
        yield b"boot\n"

    assert [some async for some in _unheard(written(), b"boot\n")] == [b"login: ", b"boot\n"]


def test_a_guest_does_not_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _write(b"a\x1b]0;mine\x07b\r\n\t\xffc\x9b31m\xc2\x9b")
    assert capsys.readouterr().out == "a]0;mineb\n\t\ufffdc\ufffd31m"
