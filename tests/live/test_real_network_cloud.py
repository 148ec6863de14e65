"""What is said to the public API of guests that run is in force on their hosts a moment later."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from mallee.cli.lab import missing, some_hosts
from mallee.cli.tiny import build
from mallee.kernel.clock import SystemClock
from mallee.kernel.errors import Fault
from tests.live.clouds import RealCloud, real_cloud

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ANYWHERE = [{"CidrIp": "0.0.0.0/0"}]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCloud]:
    if reason := missing():
        pytest.skip(reason)
    images = tmp_path_factory.mktemp("images")
    try:
        build(images / "tiny")
    except Fault as fault:
        pytest.skip(f"the tiny image cannot be built: {fault}")
    with (
        some_hosts(1, tmp_path_factory.mktemp("hosts"), uplink=True) as hosts,
        real_cloud(hosts, images, tmp_path_factory.mktemp("cloud")) as cloud,
    ):
        yield cloud


def test_groups_options_and_screens_of_a_running_guest(cloud: RealCloud) -> None:
    (host,) = cloud.hosts
    image = cloud.ec2.describe_images()["Images"][0]["ImageId"]
    made = cloud.ec2.run_instances(ImageId=image, InstanceType="t3.nano", MinCount=1, MaxCount=1)
    instance = made["Instances"][0]["InstanceId"]
    group = made["Instances"][0]["SecurityGroups"][0]["GroupId"]
    cloud.until(lambda: cloud.state(instance) == "running", "the guest runs")

    def rules() -> str:
        return host.said("nft", "list", "table", "bridge", "mallee0")

    # Its default group: from its own members everything, and to anybody.
    cloud.until(lambda: "@members0 accept" in rules(), "the default group is enforced")
    permission = {"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8090, "IpRanges": ANYWHERE}
    clock = SystemClock()
    began = clock.monotonic()
    cloud.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
    cloud.until(lambda: "tcp dport 8080-8090 accept" in rules(), "the new rule is enforced")
    took = clock.monotonic() - began
    cloud.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[permission])
    cloud.until(lambda: "8080" not in rules(), "the rule is gone")
    assert took < 30, took  # a second or two on a machine that does nothing else

    answer = cloud.ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="required")
    assert answer["InstanceMetadataOptions"]["HttpTokens"] == "required"

    def options() -> str:
        return str(cloud.describe(instance)["MetadataOptions"]["State"])

    cloud.until(lambda: options() == "applied", "the node has the options")
    domain = host.said("virsh", "-c", host.uri, "list", "--name").split()[0]
    document = host.said("virsh", "-c", host.uri, "metadata", domain, "urn:mallee:guest:1")
    said = base64.b64decode(document.partition(">")[2].rpartition("<")[0])
    assert b'"tokens_required":true' in said

    picture = base64.b64decode(cloud.ec2.get_console_screenshot(InstanceId=instance)["ImageData"])
    assert picture.startswith(b"\xff\xd8\xff")

    # A node that begins anew enforces what it knew, before anybody tells it.
    name = cloud.node_name(host)
    node = cloud.running[name]
    node.kill()
    node.wait(30)
    cloud.start_node(host)
    cloud.until(lambda: len(cloud.nodes()) == 1, "the node is back")
    assert "@members0 accept" in rules()

    cloud.ec2.terminate_instances(InstanceIds=[instance])
    cloud.until(lambda: cloud.state(instance) == "terminated", "the guest is gone")
    assert "mallee0" not in host.said("ip", "-br", "link") + host.said("nft", "list", "tables")
