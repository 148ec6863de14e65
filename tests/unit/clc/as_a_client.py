"""Handlers asked as boto3 asks and answers read as boto3 reads them, without a connection between."""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager
from functools import cache
from typing import Any
from urllib.parse import urlencode

import botocore.session
import pytest
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from mallee.aws import model
from mallee.aws.actions import ActionTable
from mallee.aws.context import Principal, Request
from mallee.aws.errors import AwsError
from mallee.aws.protocol import Protocol, decode, tree
from mallee.clc.api.ec2 import (
    ec2,
    images,
    key_pairs,
    network,
    security_groups,
    tags,
    zones,
)
from mallee.clc.api.iam import access_keys, accounts, iam, users
from mallee.clc.api.sts import identity, sts
from mallee.clc.call import Call
from mallee.clc.cloud import Cloud

FAMILIES = (
    *(images, key_pairs, network, security_groups),
    *(tags, zones, access_keys, accounts, users, identity),
)  # importing them fills the tables
TABLES: dict[str, ActionTable] = {"ec2": ec2, "iam": iam, "sts": sts}


@cache
def wire(service: str) -> tuple[Protocol, ServiceModel]:
    """Our side and botocore's, the extras among both."""
    loader = botocore.session.get_session().get_component("data_loader")
    loader.search_paths.insert(0, str(model.EXTRAS_DIR))
    return Protocol(model.load(service)), ServiceModel(loader.load_service_model(service, "service-2"))


class Client:
    """Whoever `principal` is, as a client of one cloud."""

    def __init__(self, cloud: Cloud, principal: Principal) -> None:
        self.cloud = cloud
        self.principal = principal
        self.calls = 0

    @classmethod
    def root(cls, cloud: Cloud, account: str) -> Client:
        arn = f"arn:aws:iam::{account}:root"
        return cls(cloud, Principal(account, arn, account, "AKIATEST", is_root=True))

    async def ec2(
        self, operation: str, *, invocation: str | None = None, **parameters: Any
    ) -> dict[str, Any]:
        return await self._ask("ec2", operation, invocation, parameters)

    async def iam(
        self, operation: str, *, invocation: str | None = None, **parameters: Any
    ) -> dict[str, Any]:
        return await self._ask("iam", operation, invocation, parameters)

    async def sts(self, operation: str) -> dict[str, Any]:
        return await self._ask("sts", operation, None, {})

    async def _ask(
        self, service: str, operation: str, invocation: str | None, parameters: dict[str, Any]
    ) -> dict[str, Any]:
        protocol, theirs = wire(service)
        described, action = theirs.operation_model(operation), TABLES[service].handlers[operation]
        serializer = create_serializer(protocol.model.protocol, include_validation=False)
        form = serializer.serialize_to_request(parameters, described)["body"]
        del form["Action"], form["Version"]
        asked = protocol.parser(operation, action.accepts)(tree(decode(urlencode(form).encode())))
        request = self._request(service, operation, invocation, asked)
        answer = await action.handler(Call(request, self.cloud, action.secret_result), asked)
        body = protocol.serialize(operation, answer, request.request_id)
        read = create_parser(protocol.model.protocol).parse(
            {"body": body, "headers": {}, "status_code": 200}, described.output_shape
        )
        del read["ResponseMetadata"]
        return read  # type: ignore[no-any-return]

    def _request(
        self, service: str, operation: str, invocation: str | None, asked: dict[str, Any]
    ) -> Request:
        self.calls += 1
        paging = {"NextToken", "MaxResults", "Marker", "MaxItems"}
        kept = {name: value for name, value in asked.items() if name not in paging}
        return Request(
            request_id=f"r-{self.calls}",
            service=service,
            operation=operation,
            version="",
            region="mallee-1",
            host="cloud.example:8773",
            principal=self.principal,
            invocation_id=invocation,
            parameter_hash=hashlib.sha256(json.dumps(kept, default=str).encode()).hexdigest(),
        )


def refused(code: str, match: str | None = None, status: int | None = None) -> AbstractContextManager[Any]:
    """The block raises the AWS error of that code."""

    def is_it(error: AwsError) -> bool:
        return error.code == code and status in {None, error.status}

    return pytest.raises(AwsError, check=is_it, match=match)
