"""What the AWS wire costs per request, in microseconds of CPU: `python benches/wire.py`."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import process_time
from urllib.parse import urlencode

import botocore.auth
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

sys.path.insert(0, str(Path(__file__).parents[1]))

from mallee.aws import model
from mallee.aws.actions import ActionTable
from mallee.aws.context import Principal
from mallee.aws.protocol import Protocol, decode, tree
from mallee.aws.server import Front
from mallee.aws.service import Service
from mallee.aws.sigv4 import Arrived, Key, Verifier
from mallee.kernel.clock import ManualClock
from mallee.kernel.entropy import SystemEntropy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADA = Principal("000000000001", "arn:aws:iam::000000000001:user/ada", "AIDA1", "AKIDEXAMPLE")
KEY = Key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", ADA)
GROUPS = [{"GroupId": "sg-0123456789abcdef0", "GroupName": "default"}]
ATTACHED = {"AttachTime": NOW, "DeleteOnTermination": True, "Status": "attached"}
ADDRESS = {"PrivateIpAddress": "172.31.0.4", "PrivateDnsName": "ip-172-31-0-4.mallee-1.compute.internal"}


def instance(number: int) -> dict:
    """An instance as DescribeInstances shows it: 79 leaves."""
    return {
        "InstanceId": f"i-{number:017x}", "ImageId": "ami-0123456789abcdef0", "State": {"Code": 16, "Name": "running"},
        **ADDRESS, "StateTransitionReason": "", "KeyName": "key", "AmiLaunchIndex": 0, "InstanceType": "t3.micro",
        "LaunchTime": NOW, "Placement": {"AvailabilityZone": "mallee-1a", "Tenancy": "default", "GroupName": "", "HostId": "h-0"},
        "Monitoring": {"State": "disabled"}, "SubnetId": "subnet-0123456789abcdef0", "VpcId": "vpc-0123456789abcdef0",
        "SourceDestCheck": True, "SecurityGroups": GROUPS, "Architecture": "x86_64", "RootDeviceType": "ebs",
        "RootDeviceName": "/dev/sda1", "VirtualizationType": "hvm", "ClientToken": "0123456789abcdef", "Hypervisor": "xen",
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeId": "vol-0123456789abcdef0", **ATTACHED}}],
        "Tags": [{"Key": f"key-{n}", "Value": f"some text of a tag {n}"} for n in range(5)], "EbsOptimized": False,
        "EnaSupport": True, "CpuOptions": {"CoreCount": 1, "ThreadsPerCore": 2}, "HibernationOptions": {"Configured": False},
        "EnclaveOptions": {"Enabled": False}, "PlatformDetails": "Linux/UNIX", "UsageOperation": "RunInstances",
        "UsageOperationUpdateTime": NOW, "MaintenanceOptions": {"AutoRecovery": "default"}, "CurrentInstanceBootMode": "legacy-bios",
        "MetadataOptions": {"State": "applied", "HttpTokens": "required", "HttpPutResponseHopLimit": 1,
                            "HttpEndpoint": "enabled", "HttpProtocolIpv6": "disabled", "InstanceMetadataTags": "disabled"},
        "PrivateDnsNameOptions": {"HostnameType": "ip-name", "EnableResourceNameDnsARecord": False},
        "NetworkInterfaces": [{
            "NetworkInterfaceId": "eni-0123456789abcdef0", "SubnetId": "subnet-0123456789abcdef0", "OwnerId": "000000000001",
            "VpcId": "vpc-0123456789abcdef0", "Description": "", "Status": "in-use", "MacAddress": "02:00:00:00:00:01",
            **ADDRESS, "SourceDestCheck": True, "Groups": GROUPS, "InterfaceType": "interface",
            "Attachment": {"AttachmentId": "eni-attach-0", "DeviceIndex": 0, "NetworkCardIndex": 0, **ATTACHED},
            "PrivateIpAddresses": [{"Primary": True, **ADDRESS}],
        }],
    }  # fmt: skip


def leaves(value) -> int:
    if isinstance(value, dict):
        return sum(map(leaves, value.values()))
    return sum(map(leaves, value)) if isinstance(value, list) else 1


def measure(what: str, work, *, per: int = 1, seconds: float = 0.4) -> None:
    """The least of five rounds, per item."""
    work()
    best = float("inf")
    for _ in range(5):
        started, runs = process_time(), 0
        while process_time() - started < seconds / 5:
            work()
            runs += 1
        best = min(best, (process_time() - started) / runs)
    print(f"{what:58} {best / per * 1e6:9.2f} us")


def signed(form: str) -> Arrived:
    made = AWSRequest(method="POST", url="http://localhost:8773/", data=form)
    made.headers["Content-Type"] = "application/x-www-form-urlencoded; charset=utf-8"
    botocore.auth.get_current_datetime = lambda *_, **__: NOW.replace(tzinfo=None)
    SigV4Auth(Credentials("AKIDEXAMPLE", KEY.secret), "ec2", "mallee-1").add_auth(made)
    headers = [(name.lower().encode(), str(value).encode()) for name, value in made.headers.items()]
    return Arrived("POST", b"/", b"", [(b"host", b"localhost:8773"), *headers], form.encode())


class Keys:
    async def find(self, _access_key_id):
        return KEY


class Everybody:
    async def authorise(self, request, action, parameters) -> None:
        """May do everything."""


RUN = urlencode({
    "Action": "RunInstances", "Version": "2016-11-15", "ImageId": "ami-0123456789abcdef0", "InstanceType": "t3.micro",
    "MinCount": 1, "MaxCount": 1, "KeyName": "key", "SecurityGroupId.1": "sg-0123456789abcdef0",
    "SubnetId": "subnet-0123456789abcdef0", "ClientToken": "0a6b3f4e-6f6f-4a43-8d7e-0123456789ab",
    "TagSpecification.1.ResourceType": "instance", "TagSpecification.1.Tag.1.Key": "Name", "TagSpecification.1.Tag.1.Value": "a b",
})  # fmt: skip


def awaiting(loop, make):
    """A coroutine function as a plain one."""
    return lambda: loop.run_until_complete(make())


def the_front(wire: Protocol, cached: list) -> Front:
    ec2 = ActionTable("ec2")

    @ec2.action("DescribeInstances", accepts=("InstanceIds", "MaxResults"))
    async def describe(_call, req):
        return {"Reservations": [{"Instances": cached[: req.get("MaxResults", 1)]}]}

    return Front(
        {"ec2": Service(ec2, wire, lambda request: request)},
        keys=Keys(),
        authoriser=Everybody(),
        clock=ManualClock(NOW),
        entropy=SystemEntropy(),
        access_log=False,
    )


def main() -> None:
    started = process_time()
    wire = Protocol(model.load("ec2"))
    print(f"{'load the EC2 model':58} {(process_time() - started) * 1e3:9.2f} ms")
    started = process_time()
    parse = wire.parser("RunInstances")
    wire.serialize("DescribeInstances", {}, "r")
    print(
        f"{'compile RunInstances in and DescribeInstances out':58} {(process_time() - started) * 1e3:9.2f} ms"
    )
    loop = asyncio.new_event_loop()
    verifier, request = Verifier(Keys(), ManualClock(NOW)), signed(RUN)
    measure("verify a signed POST, key cached", awaiting(loop, lambda: verifier.verify(request)))
    measure("  of which the event loop", awaiting(loop, lambda: asyncio.sleep(0)))
    form = RUN.partition("&Version=2016-11-15&")[2].encode()
    measure("decode the form of RunInstances", lambda: tree(decode(form)))
    ready = tree(decode(form))
    measure("parse RunInstances", lambda: parse(ready))
    many = [instance(n) for n in range(100)]
    print(f"{'leaves of one instance':58} {leaves(many[0]):9}")
    page = {"Reservations": [{"ReservationId": "r-1", "OwnerId": "1", "Instances": [one]} for one in many]}
    measure("serialize 100 instances, each", lambda: wire.serialize("DescribeInstances", page, "r"), per=100)
    cached = [wire.fragment("DescribeInstances", "Reservations.Instances", one) for one in many]
    joined = {
        "Reservations": [{"ReservationId": "r-1", "OwnerId": "1", "Instances": [one]} for one in cached]
    }
    measure("join 100 cached instances, all", lambda: wire.serialize("DescribeInstances", joined, "r"))
    front = the_front(wire, cached)
    for size in (5, 100):
        asked = signed(f"Action=DescribeInstances&Version=2016-11-15&MaxResults={size}")
        measure(
            f"the whole front, {size} cached instances",
            awaiting(loop, lambda asked=asked: serve(front, asked)),
        )
    loop.close()


async def serve(front: Front, asked: Arrived) -> None:
    scope = {
        "type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "headers": asked.headers,
        "client": ("127.0.0.1", 1),
    }  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": asked.body, "more_body": False}

    async def send(message):
        assert message.get("status", 200) == 200, message

    await front(scope, receive, send)


if __name__ == "__main__":
    main()
