"""The state folder of a cloud: what `mallee up` writes there and every other command reads.

`cloud.json` is the cloud's shape, kept for the next start. `access.json` is how to reach it, `pids.json`
who runs it; both are true while the lock is held. Each service has a folder of its own beside them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from mallee.kernel.errors import Fault, Kind
from mallee.kernel.state_folder import replace

T = TypeVar("T")


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a cloud as its first user: what `mallee up --json` prints."""

    endpoint: str
    s3_endpoint: str
    region: str
    zones: list[str]
    account_id: str
    access_key_id: str
    secret_access_key: str
    pids: dict[str, int]
    state: str


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a cloud was started with. A later start that says nothing else finds it so again.

    Attributes:
        shared_nodes: one node controller holds all nodes of a zone. Decided at the first start:
            guests live in the folder of their node controller.
        node_memory_mib: of each fake node.
        instant: fake guests change state at once.
        ports: of each service by its name, chosen at the first start.
        hypervisor: `fake`, or `libvirt`: then this machine is the one node.
        listen: the address of this machine where everything answers.
    """

    zones: int
    nodes: int
    shared_nodes: bool
    node_vcpus: int
    node_memory_mib: int
    instant: bool
    ports: dict[str, int]
    hypervisor: str = "fake"
    listen: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class StateFolder:
    """The files of one cloud."""

    root: Path

    @classmethod
    def find(cls, asked: Path | None, environ: Mapping[str, str] = os.environ) -> StateFolder:
        """The folder that `--state` names, else `$MALLEE_STATE`, else the user's own."""
        if asked is None and environ.get("MALLEE_STATE"):
            asked = Path(environ["MALLEE_STATE"])
        if asked is None:
            base = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
            asked = Path(base) / "mallee"
        return cls(asked.expanduser().absolute())

    @property
    def keys(self) -> Path:
        """Where the authority and every service's certificate are."""
        return self.root / "keys"

    @property
    def logs(self) -> Path:
        return self.root / "log"

    def service(self, name: str) -> Path:
        """The folder that one service alone writes."""
        return self.root / "services" / name

    def make(self) -> None:
        """The folder and its rooms; only their owner may look inside."""
        for room in (self.root, self.keys, self.logs, self.root / "services"):
            try:
                room.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise Fault(
                    Kind.INVALID,
                    f"{room} cannot hold a cloud's state.",
                    why=f"{error.strerror}.",
                    fix="Name a folder that you may write: mallee up --state DIR",
                    code="state-unusable",
                ) from error

    def shape(self) -> Shape | None:
        """What the cloud in this folder was started with; None where there is none yet."""
        return self._read("cloud.json", Shape)

    def access(self) -> Access:
        """How to reach the cloud of this folder, running or not.

        Raises:
            Fault: NOT_FOUND, when no cloud was ever ready here.
        """
        found = self._read("access.json", Access)
        if found is None:
            raise Fault(
                Kind.NOT_FOUND,
                f"There is no cloud in {self.root}.",
                fix="Start one: mallee up (or name another folder with --state).",
                code="no-cloud",
            )
        return msgspec.structs.replace(found, pids=self.pids())

    def pids(self) -> dict[str, int]:
        """The process of each service that runs now."""
        return self._read("pids.json", dict[str, int]) or {}

    def keep_shape(self, shape: Shape) -> None:
        self._write("cloud.json", shape)

    def keep_access(self, access: Access) -> None:
        self._write("access.json", access)

    def keep_pids(self, pids: Mapping[str, int]) -> None:
        self._write("pids.json", dict(sorted(pids.items())))

    def _read(self, name: str, kind: type[T]) -> T | None:
        path = self.root / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, OSError) as error:
            raise Fault(
                Kind.INVALID,
                f"{path} cannot be read.",
                why=f"{error}.",
                fix="It is written anew by `mallee up`: remove it and start the cloud again.",
                code="state-unreadable",
            ) from error

    def _write(self, name: str, value: object) -> None:
        replace(self.root / name, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
