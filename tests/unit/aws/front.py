"""A front door with a few actions behind it, spoken to without a network."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlencode

import botocore.auth
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from mallee.aws import model
from mallee.aws.actions import ActionTable
from mallee.aws.errors import AwsError, UnauthorizedOperation
from mallee.aws.protocol import Protocol
from mallee.aws.server import Front
from mallee.aws.service import Service
from mallee.aws.sigv4 import Key
from mallee.kernel.clock import ManualClock
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import STORAGE_FULL, Fault, Kind
from tests.unit.aws.requests import ADA

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
MODELS = {name: model.load(name) for name in ("ec2", "sts")}
ERRORS = {
    "i-aws": AwsError("InvalidInstanceID.NotFound", "The instance ID 'i-aws' does not exist"),
    "i-away": Fault(Kind.UNAVAILABLE, "the zone does not answer"),
    "i-full": Fault(Kind.UNAVAILABLE, "/secret/path cannot be written", code=STORAGE_FULL),
    "i-odd": Fault(Kind.CONFLICT, "nobody translated this"),
    "i-bug": RuntimeError("secret detail"),
}


class Keys:
    async def find(self, access_key_id):
        return Key(SECRET, ADA) if access_key_id == "AKIDEXAMPLE" else None


@dataclass
class Policy:
    forbidden: set[str] = field(default_factory=set)

    async def authorise(self, request, action, parameters) -> None:
        if action.name in self.forbidden:
            raise UnauthorizedOperation


@dataclass
class House:
    """A front and what its handlers saw."""

    options: dict = field(default_factory=dict)
    clock: ManualClock = field(default_factory=ManualClock)
    policy: Policy = field(default_factory=Policy)
    calls: list = field(default_factory=list)
    inside: Counter = field(default_factory=Counter)
    most_inside: int = 0

    def __post_init__(self) -> None:
        fields = {"keys": Keys(), "authoriser": self.policy, "clock": self.clock, "entropy": SeededEntropy(1)}
        self.front = Front(self._services(), **fields | {"access_log": False} | self.options)

    def _services(self):
        ec2, sts = ActionTable("ec2"), ActionTable("sts")

        @ec2.action("DescribeInstances", accepts=("InstanceIds", "DryRun", "MaxResults", "Filters"))
        async def describe(call, req):
            self.calls.append((call, req))
            for one in req.get("InstanceIds", ()):
                if one in ERRORS:
                    raise ERRORS[one]
            if req.get("InstanceIds") == ["i-misfit"]:
                return {"Reservation": []}
            return {"Reservations": [{"ReservationId": "r-<&>"}]}

        @ec2.action("RunInstances", accepts=("MinCount", "MaxCount", "ImageId", "ClientToken", "DryRun"))
        async def run(call, req):
            self.inside[call.client_token] += 1
            self.most_inside = max(self.most_inside, self.inside[call.client_token])
            await asyncio.sleep(0)  # noqa: TID251 - gives the others a turn
            self.inside[call.client_token] -= 1
            self.calls.append((call, req))
            return {"Instances": []}

        @ec2.action("RebootInstances", accepts=("InstanceIds",))
        async def reboot(call, req):
            return None

        @sts.action("GetCallerIdentity")
        async def whoami(call, req):
            return {"Account": call.principal.account_id, "Arn": call.principal.arn, "UserId": "AIDA1"}

        @sts.action("GetAccessKeyInfo", accepts=("AccessKeyId",))
        async def whose(call, req):
            return {"Account": call.principal.account_id}

        return {
            table.service_name: Service(table, Protocol(MODELS[table.service_name]), lambda request: request)
            for table in (ec2, sts)
        }

    async def ask(
        self, action="DescribeInstances", *, service="ec2", version=None, headers=None, **parameters
    ):
        """A signed POST. Returns (status, headers, body)."""
        version = version or MODELS[service].version
        form = urlencode({"Action": action, "Version": version, **parameters})
        return await self.send(*self.signed(form, service=service, headers=headers))

    def signed(
        self, form, *, service="ec2", secret=SECRET, headers=None, method="POST", url="http://localhost/"
    ):
        """The scope fields and body of a signed request."""
        made = AWSRequest(method=method, url=url, data=form)
        made.headers["Content-Type"] = "application/x-www-form-urlencoded; charset=utf-8"
        for name, value in (headers or {}).items():
            made.headers[name] = value
        real = botocore.auth.get_current_datetime
        botocore.auth.get_current_datetime = lambda *_, **__: self.clock.now().replace(tzinfo=None)
        try:
            SigV4Auth(Credentials("AKIDEXAMPLE", secret), service, "mallee-1").add_auth(made)
        finally:
            botocore.auth.get_current_datetime = real
        sent = [(name.lower().encode(), str(value).encode()) for name, value in made.headers.items()]
        return {"headers": [(b"host", b"localhost"), *sent], "method": method}, form.encode()

    async def send(self, scope, *chunks, end=True):
        """Give the front a request in chunks. Returns (status, headers, body)."""
        whole = {
            "type": "http",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "client": ("10.0.0.1", 5),
        }
        incoming = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
        last = {"type": "http.request", "body": b"", "more_body": False}
        incoming.append(last if end else {"type": "http.disconnect"})
        outgoing = []

        async def receive():
            return incoming.pop(0)

        async def send(message):
            outgoing.append(message)

        await self.front(whole | scope, receive, send)
        if not outgoing:
            return None, {}, b""
        start, *bodies = outgoing
        body = b"".join(message["body"] for message in bodies)
        return start["status"], dict(start["headers"]), body
