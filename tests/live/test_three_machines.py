"""`docs/three-machines.md`, followed word by word: three hosts that are namespaces, a shell in each."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from mallee.cli.lab import Host, missing, some_hosts, until
from mallee.cli.tiny import build
from mallee.kernel.errors import Fault

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAGE = Path(__file__).parents[2] / "docs/three-machines.md"
PATIENCE = 240.0  # seconds for a block: an image is built, a guest boots under emulation
END = "the block is over"


class Terminal:
    """A shell on a host. It ends with the first command that fails."""

    def __init__(self, host: Host, folder: Path, name: str) -> None:
        self._name = name
        home = {"XDG_STATE_HOME": str(folder), "HOME": str(folder), "PAGER": "cat"}
        path = f"{folder.parent / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._shell = subprocess.Popen(
            ["nsenter", "-t", str(host.daemon_pid()), "-m", "-n", f"--wd={folder}", "bash", "-eu"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | home | {"PATH": path},
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.said: list[str] = []
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def type(self, text: str) -> list[str]:
        """Type a block; what it printed, when all of it is done."""
        began = len(self.said)
        self.begin(f"{text}\necho {END}")
        self.hears(END)
        return self.said[began:-1]

    def begin(self, text: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(text + "\n")
        self._shell.stdin.flush()

    def hears(self, words: str) -> None:
        """Wait for a line with these words."""
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE)
            except queue.Empty:
                line = None
            assert line is not None, f"{self._name} did not say {words!r}:\n" + "\n".join(self.said[-40:])
            self.said.append(line)
            if words in line:
                return

    def end(self) -> None:
        subprocess.run(["pkill", "-TERM", "-P", str(self._shell.pid)], check=False)
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait(60)
        self._listening.join()
        assert self._shell.stdout is not None
        self._shell.stdout.close()

    def _listen(self) -> None:
        assert self._shell.stdout is not None
        for line in self._shell.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)


def blocks() -> list[tuple[list[str], str]]:
    """Where each block is typed, and its text."""
    found = re.findall(r"^```sh ([^\n]*)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [(where.split(), text) for where, text in found]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[tuple[Host, Path]]]:
    if reason := missing():
        pytest.skip(reason)
    try:
        build(tmp_path_factory.mktemp("image"))
    except Fault as fault:
        pytest.skip(f"the tiny image cannot be built: {fault}")
    with some_hosts(3, tmp_path_factory.mktemp("machines")) as hosts:
        made = []
        for host in hosts:
            folder, own = host.folder / "typed", host.folder / "var-lib-mallee"
            folder.mkdir()
            own.mkdir()
            _lend_the_archive(host)
            bind = f"mkdir -p /var/lib/mallee && mount --bind {own} /var/lib/mallee"
            inside = ["nsenter", "-t", str(host.daemon_pid()), "-m", "sh", "-c", bind]
            subprocess.run(inside, check=True)
            made.append((host, folder))
        yield made


def _lend_the_archive(host: Host) -> None:
    """The hosts have a network of their own and no way out of it: packages come through this machine's."""
    tool = host.folder / "bin/apt-get"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec nsenter --net=/proc/{os.getpid()}/ns/net /usr/bin/apt-get "$@"\n')
    tool.chmod(0o755)


class Walk:
    """Somebody at three machines, with the page in hand."""

    def __init__(self, machines: Sequence[tuple[Host, Path]], stack: ExitStack) -> None:
        self._machines = machines
        self._stack = stack
        self._tokens: list[str] = []
        self.first = self.terminal(1)

    def terminal(self, number: int) -> Terminal:
        host, folder = self._machines[number - 1]
        made = Terminal(host, folder, f"machine {number}")
        self._stack.callback(made.end)
        return made

    def follow(self, where: Sequence[str], raw: str) -> None:
        """Type one block where the page has it typed, and see what it promises."""
        text = raw
        for number, (host, _) in enumerate(self._machines, start=1):
            text = text.replace(f"10.0.0.{number}", host.address)
        if where == ["each"]:
            for number in (1, 2, 3):
                (self.first if number == 1 else self.terminal(number)).type(text)
        elif "stays" in where:
            self._stay(int(where[0]), text)
        else:
            self._look(text)

    def _stay(self, number: int, text: str) -> None:
        staying = self.terminal(number)
        staying.begin(text if number == 1 else text.replace("TOKEN", self._tokens[number - 2]))
        staying.hears("is ready" if number == 1 else "has joined")

    def _look(self, text: str) -> None:
        if text.startswith("mallee nodes"):
            until(lambda: len(self._attending()) == 3, "all three nodes", 60)
        said = self.first.type(text)
        if "node token" in text:
            self._tokens = said
        if "mallee console" in text:
            until(lambda: "login:" in "\n".join(self.first.type("mallee console $ID")), "its login", PATIENCE)
        if "mallee migrate" in text:
            assert any("completed" in line for line in said), said

    def _attending(self) -> list[str]:
        return [line for line in self.first.type("mallee nodes") if "ready" in line or "available" in line]


def test_the_page_is_true(machines: Sequence[tuple[Host, Path]]) -> None:
    with ExitStack() as stack:
        walk = Walk(machines, stack)
        for where, text in blocks():
            if "install" not in where:
                walk.follow(where, text)
        left = walk.first.type("virsh list --all --name; ip -o link; nft list tables")
        assert not [line for line in left if "i-" in line or "mallee" in line], left
