"""The life of two instances, told through boto3: `mallee demo`, and the acceptance test of every way to run a cloud.

It uses no more than any client has: an endpoint and keys.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mallee.cli.client import Cloud

INSTANCE_TYPE = "t3.micro"
Tell = Callable[[str], None]


class Story:
    """Tells the story step by step.

    Args:
        cloud: where.
        clock: measures each step.
        tell: takes a line for each step.
        watch: follows a migration until it has ended, and gives it back as described then.
    """

    def __init__(
        self, cloud: Cloud, clock: Clock, tell: Tell, watch: Callable[[str], dict[str, Any]]
    ) -> None:
        self._ec2 = cloud.ec2
        self._clock = clock
        self._tell = tell
        self._watch = watch

    def run(self) -> None:
        """From the key pair to the end of both instances. Nothing stays behind, whatever fails.

        Raises:
            Fault: when the cloud does not do what it should.
        """
        with self._key_pair() as key, self._instances(key) as ids:
            self._wait("instance_running", ids)
            self._console(ids[0])
            self._migrate(ids[0])
            with self._step("stop-instances", f"{ids[0]} stopped"):
                self._ec2.stop_instances(InstanceIds=ids[:1])
                self._wait_for("instance_stopped", ids[:1])
            with self._step("start-instances", f"{ids[0]} running again"):
                self._ec2.start_instances(InstanceIds=ids[:1])
                self._wait_for("instance_running", ids[:1])

    @contextmanager
    def _key_pair(self) -> Iterator[str]:
        name = f"mallee-demo-{os.getpid()}"
        with self._step("create-key-pair", name):
            self._ec2.create_key_pair(KeyName=name, KeyType="ed25519")
        try:
            yield name
        finally:
            self._ec2.delete_key_pair(KeyName=name)

    @contextmanager
    def _instances(self, key: str) -> Iterator[list[str]]:
        image = self._ec2.describe_images()["Images"][0]["ImageId"]
        tags = [{"Key": "Name", "Value": "demo"}, {"Key": "mallee:workload", "Value": "build"}]
        with self._step("run-instances", f"2 x {INSTANCE_TYPE} of {image}: pending"):
            made = self._ec2.run_instances(
                ImageId=image,
                InstanceType=INSTANCE_TYPE,
                MinCount=2,
                MaxCount=2,
                KeyName=key,
                TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
            )["Instances"]
        with self._ended_with_the_story([instance["InstanceId"] for instance in made]) as ids:
            yield ids

    @contextmanager
    def _ended_with_the_story(self, ids: list[str]) -> Iterator[list[str]]:
        try:
            yield ids
        finally:
            with self._step("terminate-instances", f"{len(ids)} terminated"):
                self._ec2.terminate_instances(InstanceIds=ids)
                self._wait_for("instance_terminated", ids)

    def _wait(self, waiter: str, ids: list[str]) -> None:
        with self._step(f"wait {waiter.replace('_', '-')}", ""):
            self._wait_for(waiter, ids)
        for instance in self._describe(ids):
            place = instance["Placement"]
            where = f"{place['AvailabilityZone']} on {place.get('HostId', 'a node')}"
            self._tell(f"      {instance['InstanceId']}  {instance['PrivateIpAddress']}  {where}")

    def _describe(self, ids: list[str]) -> list[dict[str, Any]]:
        found = self._ec2.describe_instances(InstanceIds=ids)["Reservations"]
        return [instance for reservation in found for instance in reservation["Instances"]]

    def _wait_for(self, waiter: str, ids: list[str]) -> None:
        # The stock waiters ask every 15 seconds; nothing here takes that long.
        self._ec2.get_waiter(waiter).wait(InstanceIds=ids, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300})

    def _console(self, instance: str) -> None:
        with self._step("get-console-output", instance):
            output = self._ec2.get_console_output(InstanceId=instance).get("Output", "")
        lines = output.strip().splitlines() or ["(silent)"]
        self._tell(f"      {lines[-1].strip()[:96]}")

    def _migrate(self, instance: str) -> None:
        before = self._describe([instance])[0]["Placement"]
        with self._step("migrate-instances", f"{instance} leaves its node and runs on"):
            # A thin line and a small budget: on the cloud's own terms one round would do, and show nothing.
            answer = self._ec2.migrate_instances(
                InstanceIds=[instance], BandwidthLimit=4000, DowntimeBudget=10
            )
        if not answer.get("Migrations"):
            refusals = [r.get("Message", "") for r in answer.get("Refusals", [])]
            raise Fault(Kind.CONFLICT, f"{instance} did not migrate.", why=" ".join(refusals))
        moved = self._watch(answer["Migrations"][0]["MigrationId"])
        after = self._describe([instance])[0]
        if moved["State"] != "completed" or after["State"]["Name"] != "running":
            raise Fault(
                Kind.INTERNAL, f"{instance} did not arrive.", why=f"{moved.get('StateReason', moved)}"
            )
        if after["Placement"].get("HostId") == before.get("HostId"):
            raise Fault(Kind.INTERNAL, f"{instance} is still on {before.get('HostId')}.")

    @contextmanager
    def _step(self, action: str, text: str) -> Iterator[None]:
        began = self._clock.monotonic()
        yield
        self._tell(f"  > {action:<22} {text:<52} {self._clock.monotonic() - began:5.2f} s")
