"""A cloud as its commands see it: boto3 with Mallee's extras, like any other client."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mallee.cli.state import Access, StateFolder

if TYPE_CHECKING:
    import boto3

EC2_VERSION = "2016-11-15"  # the extras are bound to it; a newer model of botocore's would not find them
_NAMED_BY = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2", "AWS_PROFILE")


def extras() -> Path:
    """The folder of model extensions that come with Mallee."""
    return Path(str(files("mallee.aws"))) / "extras"


def session(access: Access | None) -> boto3.Session:
    """A boto3 session that knows Mallee's own operations.

    Args:
        access: whose keys; None for what boto3 itself finds in the environment and in profiles.
    """
    import boto3
    import botocore.session

    core = botocore.session.get_session()
    loader = core.get_component("data_loader")
    # First: another vendor's extension of EC2 in ~/.aws/models would hide ours.
    loader.search_paths.insert(0, str(extras()))
    if access is None:
        return boto3.Session(botocore_session=core)
    return boto3.Session(
        botocore_session=core,
        aws_access_key_id=access.access_key_id,
        aws_secret_access_key=access.secret_access_key,
        region_name=access.region,
    )


class Cloud:
    """Clients of one cloud.

    Args:
        access: the cloud of a state folder; None for the one that the environment names.
    """

    def __init__(self, access: Access | None) -> None:
        self.access = access
        self._session = session(access)

    @classmethod
    def find(cls, state: Path | None) -> Cloud:
        """The cloud of `--state`, else the one that the environment names, else the user's own.

        Raises:
            Fault: NOT_FOUND, when there is none.
        """
        if state is None and any(os.environ.get(name) for name in _NAMED_BY):
            return cls(None)
        return cls(StateFolder.find(state).access())

    def client(self, service: str) -> Any:
        """A boto3 client. `Any`: the published types know nothing of the operations in the extras."""
        from botocore.config import Config

        config = Config(connect_timeout=5, read_timeout=60, retries={"max_attempts": 3, "mode": "standard"})
        make: Any = self._session.client  # its overloads name every service of AWS, one by one
        return make(
            service,
            api_version=EC2_VERSION if service == "ec2" else None,
            endpoint_url=self.access.endpoint if self.access else None,
            config=config,
        )

    @property
    def ec2(self) -> Any:
        return self.client("ec2")
