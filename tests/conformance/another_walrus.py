"""Another object store of ours, on a port of its own: `python another_walrus.py PORT FOLDER`."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from object_stores import KEY, SECRET

from mallee.aws import model
from mallee.aws.context import Principal
from mallee.aws.listener import listener
from mallee.aws.rest_xml import RestXml
from mallee.aws.sigv4 import signing_key
from mallee.kernel.clock import SystemClock
from mallee.kernel.entropy import SystemEntropy
from mallee.walrus.access.gate import Gate
from mallee.walrus.api import operations
from mallee.walrus.front.pipeline import S3Front
from mallee.walrus.identity import Account
from tests.unit.walrus.a_store import OWNER, a_store

ADA = Principal(OWNER, f"arn:aws:iam::{OWNER}:root", OWNER, KEY, is_root=True)


@dataclass(frozen=True)
class Derived:
    key: bytes
    principal: Principal = ADA
    active: bool = True
    session_token_sha256: bytes = b""


class Keys:
    """One key pair that everybody knows, and one account."""

    region = "us-east-1"

    async def find(self, access_key_id: str, date: str, region: str) -> Derived | None:
        return Derived(signing_key(SECRET, date, region, "s3")) if access_key_id == KEY else None

    async def shown(self, account_id: str) -> Account:
        return Account(account_id, "ada", "f" * 64)


async def main(port: int, folder: Path) -> None:
    clock, entropy, keys = SystemClock(), SystemEntropy(), Keys()
    async with a_store(folder, clock=clock, entropy=entropy, durable=True) as store:
        front = S3Front(
            operations(),
            wire=RestXml(model.load("s3")),
            keys=keys,
            access=Gate(),
            clock=clock,
            entropy=entropy,
            store=store,
            identity=keys,
        )
        config = uvicorn.Config(
            front, lifespan="off", log_config=None, server_header=False, ws="none", port=port
        )
        config.http = listener(lambda _: b"<Error/>", entropy)
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
