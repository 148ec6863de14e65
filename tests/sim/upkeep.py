"""What users do with all that belongs to instances: attributes, groups, tags, images; and what they only ask."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.sim.deeds import deed
from tests.sim.users import Act, User
from tests.sim.world import REGION

# Attributes.


@deed(1)
async def change_attributes(u: User) -> None:
    if name := u.any_of_mine():
        kind = u.chance.choice(["sim.small", "sim.large"])
        change: dict[str, Any] = u.chance.choice(
            [
                {"InstanceType": {"Value": kind}},
                {"InstanceInitiatedShutdownBehavior": {"Value": u.chance.choice(["stop", "terminate"])}},
                {"SourceDestCheck": {"Value": u.chance.random() < 0.5}},
                {"UserData": {"Value": b"changed"}},
            ]
        )
        ((attribute, value),) = change.items()
        done = await u.ask("ModifyInstanceAttribute", InstanceId=name, **change)
        _described(u, name, attribute[0].lower() + attribute[1:], value["Value"], done is not None)


def _described(u: User, name: str, attribute: str, value: Any, granted: bool) -> None:
    """Remember what was acknowledged; after one change that nobody heard of, nobody knows what it is."""
    before = u.promises.described.get((name, attribute), "")
    u.promises.described[name, attribute] = value if granted and before is not None else None


@deed(0.5)
async def reset_attributes(u: User) -> None:
    if name := u.any_of_mine():
        done = await u.ask("ResetInstanceAttribute", InstanceId=name, Attribute="sourceDestCheck")
        _described(u, name, "sourceDestCheck", True, done is not None)


@deed(0.7)
async def protect(u: User) -> None:
    """An instance that nobody else has in mind is protected: it is not terminated before that is taken back."""
    made = await u.launch(kind="sim.small")
    for name in made:
        u.mine.remove(name)
        attribute, verb = u.chance.choice(
            [("DisableApiTermination", "terminate"), ("DisableApiStop", "stop")]
        )
        if await u.ask("ModifyInstanceAttribute", InstanceId=name, **{attribute: {"Value": True}}) is None:
            continue
        if await u.ask(f"{verb.title()}Instances", InstanceIds=[name]) is not None:
            u.watch.broken("I12", f"{name} was protected and could be told to {verb}")
        if (
            await u.ask("ModifyInstanceAttribute", InstanceId=name, **{attribute: {"Value": False}})
            is not None
        ):
            u.mine.append(name)
            await u.act(verb, name)


@deed(0.7)
async def metadata_and_monitoring(u: User) -> None:
    if name := u.any_of_mine():
        hops = u.chance.randint(1, 64)
        done = await u.ask("ModifyInstanceMetadataOptions", InstanceId=name, HttpPutResponseHopLimit=hops)
        _described(u, name, "hops", hops, done is not None)
        wanted = u.chance.random() < 0.5
        done = await u.ask("MonitorInstances" if wanted else "UnmonitorInstances", InstanceIds=[name])
        _described(u, name, "monitoring", "enabled" if wanted else "disabled", done is not None)


# Groups.


@deed(0.5)
async def one_name_twice(u: User) -> None:
    """Two groups of one name at once: one of them is refused."""
    name = f"group-{u.chance.getrandbits(32)}"
    made = await asyncio.gather(
        *(u.ask("CreateSecurityGroup", GroupName=name, Description="race") for _ in range(2))
    )
    if len({each["GroupId"] for each in made if each}) > 1:
        u.watch.broken("I5", f"two groups are named {name}")
    for each in made:
        if each and u.chance.random() < 0.5:
            await _let_in(u, each["GroupId"])
            await u.ask("DeleteSecurityGroup", GroupId=each["GroupId"])


async def _let_in(u: User, group: str) -> dict[str, Any] | None:
    """A rule that nobody else writes, if it was granted."""
    cidr = f"10.{u.chance.randrange(256)}.{u.chance.randrange(256)}.{u.chance.randrange(256)}/32"
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": cidr}]}
    done = await u.ask("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[rule])
    return None if done is None else rule


@deed(0.7)
async def guarded(u: User) -> None:
    """A group with rules, in use: what was let in stays until it is shut out again."""
    made = await u.ask(
        "CreateSecurityGroup", GroupName=f"guard-{u.chance.getrandbits(32)}", Description="kept"
    )
    if made is None:
        return
    group = made["GroupId"]
    rules = [rule for _ in range(2) if (rule := await _let_in(u, group))]
    for rule in rules:
        u.promises.rules[group, rule["IpRanges"][0]["CidrIp"]] = u.name
    out = {"IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]}
    if await u.ask("AuthorizeSecurityGroupEgress", GroupId=group, IpPermissions=[out]) is not None:
        await u.ask("RevokeSecurityGroupEgress", GroupId=group, IpPermissions=[out])
    launched = await u.launch(kind="sim.small", SecurityGroupIds=[group])
    if rules and u.chance.random() < 0.5:
        gone = rules[0]
        u.promises.rules.pop((group, gone["IpRanges"][0]["CidrIp"]), None)
        await u.ask("RevokeSecurityGroupIngress", GroupId=group, IpPermissions=[gone])
    if launched and u.chance.random() < 0.5:
        await u.ask("ModifyInstanceAttribute", InstanceId=launched[0], Groups=[group])


# Tags of all kinds of things.


@deed(0.5)
async def tag_many(u: User) -> None:
    """Several things in one request: all of them or none."""
    if name := u.any_of_mine():
        answer = await u.ask("DescribeSecurityGroups", GroupNames=["default"])
        groups = [each["GroupId"] for each in (answer or {}).get("SecurityGroups", ())]
        key = f"many{u.chance.getrandbits(32)}"
        done = await u.ask("CreateTags", Resources=[name, *groups], Tags=[{"Key": key, "Value": "x"}])
        seen = await u.ask("DescribeTags", Filters=[{"Name": "key", "Values": [key]}])
        if done is not None:
            u.promises.tags[name, key] = "x"
            if seen and groups and {each["ResourceId"] for each in seen["Tags"]} != {name, *groups}:
                u.watch.broken("I13", f"the tag {key} is on {[each['ResourceId'] for each in seen['Tags']]}")


# Images.


@deed(1, admin=True)
async def images(u: User) -> None:
    """Of files that every node has, and of objects of the store, where there is one."""
    name = f"image-{u.chance.getrandbits(32)}"
    where = u.chance.choice(["builtin:tiny", f"pictures/{u.chance.choice(['a', 'b/c'])}"])
    if answer := await u.ask("RegisterImage", Name=name, ImageLocation=where):
        await _live_of_an_image(u, answer["ImageId"], name)


@deed(1.5)
async def an_image_of_mine(u: User) -> None:
    """Made by a saga: it is there in the end, or it has failed; it is not on its way for ever."""
    if instance := u.any_of_mine():
        name = f"made-{u.chance.getrandbits(32)}"
        gently = u.chance.random() < 0.3
        if gently:  # it is stopped and started, whatever else is wished for meanwhile
            u.promises.acts.setdefault(instance, []).append(Act("image", u.world.loop.now))
        if answer := await u.ask("CreateImage", InstanceId=instance, Name=name, NoReboot=not gently):
            u.promises.images[answer["ImageId"]] = u.name
            await asyncio.sleep(u.chance.uniform(0, 3))
            if u.chance.random() < 0.3:
                await _live_of_an_image(u, answer["ImageId"], name)


async def _live_of_an_image(u: User, image: str, name: str) -> None:
    u.promises.images[image] = u.name
    seen = await u.ask("DescribeImages", ImageIds=[image])
    if seen is not None and not seen["Images"]:
        u.watch.broken("I12", f"{image} was made and is not there")
    if copied := await u.ask("CopyImage", SourceImageId=image, SourceRegion=REGION, Name=f"copy-{name}"):
        u.promises.images[copied["ImageId"]] = u.name
    for operation in u.chance.sample(sorted(_ON_IMAGES), 3):
        await u.ask(operation, ImageId=image, **_ON_IMAGES[operation])
    if u.chance.random() < 0.4:
        await u.ask("DisableImageDeregistrationProtection", ImageId=image)
        u.promises.images.pop(image)
        await u.ask("DeregisterImage", ImageId=image)


_ON_IMAGES: dict[str, dict[str, Any]] = {
    "ModifyImageAttribute": {"LaunchPermission": {"Add": [{"Group": "all"}]}},
    "ResetImageAttribute": {"Attribute": "launchPermission"},
    "DescribeImageAttribute": {"Attribute": "launchPermission"},
    "DisableImage": {},
    "EnableImage": {},
    "EnableImageDeprecation": {"DeprecateAt": "2026-06-01T00:00:00Z"},
    "DisableImageDeprecation": {},
    "EnableImageDeregistrationProtection": {},
    "DisableImageDeregistrationProtection": {},
}

# Questions.

_QUESTIONS = (
    *("DescribeInstances", "DescribeInstanceStatus", "DescribeVolumes", "DescribeTags", "DescribeHosts"),
    *("DescribeAvailabilityZones", "DescribeKeyPairs", "DescribeSecurityGroups", "DescribeNetworkInterfaces"),
    *("DescribeInstanceMigrations", "DescribeImages", "DescribeSubnets", "DescribeVpcs", "DescribeRegions"),
    *("DescribeSecurityGroupRules", "DescribeAccountAttributes", "DescribeInstanceTypes"),
    *("DescribeInstanceTypeOfferings", "DescribeInstanceCreditSpecifications", "DescribeAudit"),
)


@deed(2)
async def questions(u: User) -> None:
    for operation in u.chance.sample(_QUESTIONS, 2):
        await u.ask(operation)


@deed(1)
async def questions_of_one(u: User) -> None:
    if name := u.any_of_mine():
        operation = u.chance.choice(["GetConsoleOutput", "GetConsoleScreenshot", "GetInstanceUefiData"])
        await u.ask(operation, InstanceId=name)
        await u.ask("DescribeInstanceAttribute", InstanceId=name, Attribute="instanceType")


@deed(1)
async def page_by_page(u: User) -> None:
    """Each page from whichever cloud controller answers: nothing twice, and nothing left out that was there."""
    before, seen, token = list(u.mine), [], {}
    for _ in range(10):
        answer = await u.ask("DescribeInstances", MaxResults=5, **token)
        if answer is None:
            return
        seen += [each["InstanceId"] for one in answer["Reservations"] for each in one["Instances"]]
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    else:
        return
    if len(seen) != len(set(seen)) or not set(before) <= set(seen):
        u.watch.broken("I12", f"page by page {u.name} saw {sorted(seen)} and has {sorted(before)}")
