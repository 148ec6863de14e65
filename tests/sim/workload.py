"""What users do with instances: at odd moments, and in races on purpose."""

from __future__ import annotations

import asyncio

from tests.sim.deeds import deed
from tests.sim.users import IMAGE, User

# Lives.


@deed(5)
async def launch(u: User) -> None:
    await u.launch(
        u.chance.choice([1, 1, 1, 2, 3]), kind=u.chance.choice(["sim.small", "sim.small", "sim.large"])
    )


@deed(2)
async def launch_all_or_nothing(u: User) -> None:
    count = u.chance.randint(2, 4)
    await u.launch(count, least=count)


@deed(1)
async def launch_one_that_ends(u: User) -> None:
    ends = {"Key": "mallee:ends-after", "Value": str(u.chance.choice([1, 3, 10]))}
    behaviour = u.chance.choice(["stop", "terminate"])
    spec = [{"ResourceType": "instance", "Tags": [ends]}]
    u.promises.dying.update(
        await u.launch(TagSpecifications=spec, InstanceInitiatedShutdownBehavior=behaviour)
    )


@deed(1)
async def launch_one_that_fails(u: User) -> None:
    verb = u.chance.choice(
        ["start", "shut_down", "destroy", "pre_copy", "stop_and_copy", "prepare", "receive"]
    )
    word = (
        u.chance.choice(["mallee:fail", "mallee:slow"])
        if verb in {"start", "prepare", "receive"}
        else "mallee:slow"
    )
    value = verb if word == "mallee:fail" else str(u.chance.choice([0.5, 2, 6]))
    spec = [{"ResourceType": "instance", "Tags": [{"Key": word, "Value": value}]}]
    u.promises.dying.update(await u.launch(TagSpecifications=spec))


@deed(3)
async def terminate(u: User) -> None:
    if name := u.any_of_mine():
        await u.act("terminate", name)


@deed(3)
async def stop(u: User) -> None:
    if name := u.any_of_mine():
        await u.act("stop", name, **({"Force": True} if u.chance.random() < 0.3 else {}))


@deed(4)
async def start(u: User) -> None:
    if name := u.any_of_mine():
        await u.act("start", name)


@deed(1)
async def reboot(u: User) -> None:
    if name := u.any_of_mine():
        await u.act("reboot", name)


@deed(2)
async def stop_and_start(u: User) -> None:
    if name := u.any_of_mine():
        await u.act("stop", name)
        if u.chance.random() < 0.7:
            await u.until(name, "stopped")
        await u.act("start", name)


@deed(1)
async def wait_until_it_runs(u: User) -> None:
    if name := u.any_of_mine():
        await u.until(name, "running", "terminated", "stopped")


# Races.


@deed(2)
async def terminate_while_launching(u: User) -> None:
    for name in await u.launch(u.chance.choice([1, 2])):
        await asyncio.sleep(u.chance.choice([0, 0.01, 0.3, 1.0]))
        await u.act("terminate", name)


@deed(1)
async def everything_at_once(u: User) -> None:
    """Stop, start, reboot and terminate of one instance in the same moment."""
    if name := u.any_of_mine():
        verbs = u.chance.sample(["stop", "start", "reboot", "terminate", "stop", "start"], 3)
        await asyncio.gather(*(u.act(verb, name) for verb in verbs))


@deed(1)
async def one_token_often(u: User) -> None:
    token = u.client.token()
    made = await asyncio.gather(*(u.launch(token=token) for _ in range(u.chance.choice([3, 8, 20]))))
    if len({name for ids in made for name in ids}) > 1:
        u.watch.broken("I5", f"one token launched {sorted({name for ids in made for name in ids})}")


@deed(0.05)
async def one_token_two_hundred_times(u: User) -> None:
    """At both cloud controllers, if there are two: one launch, and everybody who is answered is told of that one."""
    token = u.client.token()
    made = await asyncio.gather(*(u.launch(token=token) for _ in range(200)))
    if len({name for ids in made for name in ids}) > 1:
        u.watch.broken("I5", f"one token launched {sorted({name for ids in made for name in ids})}")


@deed(1)
async def one_token_for_two_things(u: User) -> None:
    token = u.client.token()
    first = await u.launch(1, token=token)
    second = await u.launch(2, token=token)
    if first and second:
        u.watch.broken("I5", f"a token of one request was good for another: {first}, {second}")


@deed(1)
async def more_than_there_is_room_for(u: User) -> None:
    """Three times the room of the zone, in single requests at once: exactly what fits is granted."""
    shape = u.world.shape
    asked = 3 * shape.zones * shape.nodes * shape.vcpus
    await asyncio.gather(*(u.launch() for _ in range(min(asked, 24))))


# Migrations.


@deed(5, admin=True)
async def migrate(u: User) -> None:
    await _migrate(u)


def _somebody(u: User) -> str | None:
    """An instance of anybody's, most often one that was last told to run."""
    acts = {name: u.promises.acts.get(name, [])[-1:] for name in u.promises.launched}
    living = [name for name, last in acts.items() if not last or last[0].verb in {"start", "reboot"}]
    some = living if living and u.chance.random() < 0.9 else list(acts)
    return u.chance.choice(some) if some else None


async def _migrate(u: User) -> list[str]:
    name = _somebody(u)
    if name is None:
        return []
    answer = await u.ask("MigrateInstances", InstanceIds=[name], ClientToken=u.client.token())
    begun = [each["MigrationId"] for each in (answer or {}).get("Migrations", ())]
    u.promises.migrations.update(dict.fromkeys(begun, name))
    return begun


@deed(2, admin=True)
async def migrate_twice_at_once(u: User) -> None:
    name = _somebody(u)
    if name is None:
        return
    asks = (u.ask("MigrateInstances", InstanceIds=[name], ClientToken=u.client.token()) for _ in range(2))
    answers = await asyncio.gather(*asks)
    begun = [each["MigrationId"] for answer in answers if answer for each in answer["Migrations"]]
    u.promises.migrations.update(dict.fromkeys(begun, name))


@deed(3, admin=True)
async def end_it_while_it_migrates(u: User) -> None:
    for migration in await _migrate(u):
        name = u.promises.migrations[migration]
        await asyncio.sleep(u.chance.uniform(0, 1.5))
        await u.act(u.chance.choice(["stop", "terminate", "reboot", "stop"]), name)


@deed(2, admin=True)
async def steer(u: User) -> None:
    for migration in await _migrate(u):
        await asyncio.sleep(u.chance.uniform(0, 1.5))
        action = u.chance.choice(["cancel", "force-complete"])
        await u.ask("CancelInstanceMigration", MigrationId=migration, Action=action)


@deed(2, admin=True)
async def there_and_back(u: User) -> None:
    """A migration, and at once the next one: late messages of the first meet the second."""
    name = _somebody(u)
    if name is None:
        return
    for _ in range(3):
        await u.ask("MigrateInstances", InstanceIds=[name], ClientToken=u.client.token())
        await asyncio.sleep(u.chance.uniform(0.2, 2.5))


@deed(2, admin=True)
async def drain(u: User) -> None:
    hosts = await _hosts(u)
    if not hosts:
        return
    host = u.chance.choice(hosts)
    await u.ask("ModifyHosts", HostIds=[host], AutoPlacement="off")
    await u.ask("MigrateInstances", SourceHost=host, ClientToken=u.client.token())
    await asyncio.sleep(u.chance.uniform(0, 6))
    await u.ask("ModifyHosts", HostIds=[host], AutoPlacement="on")


@deed(1, admin=True)
async def drain_a_node_that_dies(u: User) -> None:
    """Its controller alone, or the whole host; before the last of its instances has left."""
    processes = _nodes(u)
    if not processes:
        return
    host = u.chance.choice(sorted(processes))
    process = u.world.processes[processes[host]]
    await u.ask("ModifyHosts", HostIds=[host], AutoPlacement="off")
    await u.ask("MigrateInstances", SourceHost=host, ClientToken=u.client.token())
    await asyncio.sleep(u.chance.uniform(0, 3))
    if process.life.alive:
        if u.chance.random() < 0.5:
            process.lose_power()
            u.watch.guests.power_off(process)
            await asyncio.sleep(u.chance.choice([1.0, 5.0, 20.0]))
        else:  # its guests run on, so it has a supervisor
            process.kill()
            await asyncio.sleep(u.chance.uniform(0.05, 4.0))
        if not process.life.alive:
            process.off = False
            process.start()
    await u.ask("ModifyHosts", HostIds=[host], AutoPlacement="on")


def _nodes(u: User) -> dict[str, str]:
    """Which process each host is, by the books of those who run the zones just now."""
    found = {}
    for serving in u.world.serving():
        if (controller := u.world.controller(serving)) is not None:
            for number, row in controller.ledger.nodes.rows.items():
                found[u.world.host_id(controller.config.zone, f"h-{number}")] = f"nc-{row.name}"
    return found


@deed(1, admin=True)
async def move_by_placement(u: User) -> None:
    hosts = await _hosts(u)
    if hosts and u.promises.launched:
        name = u.chance.choice(list(u.promises.launched))
        await u.ask("ModifyInstancePlacement", InstanceId=name, HostId=u.chance.choice(hosts))


async def _hosts(u: User) -> list[str]:
    answer = await u.ask("DescribeHosts")
    return [each["HostId"] for each in answer["Hosts"]] if answer else []


# All the rest.


@deed(1)
async def tag(u: User) -> None:
    if name := u.any_of_mine():
        key, value = f"k{u.chance.getrandbits(32)}", str(u.chance.random())
        if await u.ask("CreateTags", Resources=[name], Tags=[{"Key": key, "Value": value}]) is not None:
            u.promises.tags[name, key] = value


@deed(0.5)
async def untag(u: User) -> None:
    if name := u.any_of_mine():
        await u.ask("CreateTags", Resources=[name], Tags=[{"Key": "passing", "Value": ""}])
        await u.ask("DeleteTags", Resources=[name], Tags=[{"Key": "passing"}])


@deed(0.5)
async def key_pairs(u: User) -> None:
    name = f"key-{u.chance.getrandbits(32)}"
    public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6wz0yuzbxx0Q5c1XUqxH2WcUyQGb0yHqdlGZ2X8H5d a@b"
    if u.chance.random() < 0.3:
        made = await u.ask("CreateKeyPair", KeyName=name, KeyType="ed25519")
    else:
        made = await u.ask("ImportKeyPair", KeyName=name, PublicKeyMaterial=public.encode())
    if made is None:
        return
    if u.chance.random() < 0.5:
        await u.launch(KeyName=name)
    if u.chance.random() < 0.5:
        await u.ask("DeleteKeyPair", KeyName=name)
    else:
        u.promises.keys.add(name)


@deed(1)
async def touch_what_is_not_ours(u: User) -> None:
    """What another account has is to us as if it were not: the same refusal, word for word but for the id."""
    if u.is_admin:
        return
    foreign = [name for name, owner in u.promises.launched.items() if owner != u.name]
    if not foreign:
        return
    theirs, nobodys = u.chance.choice(foreign), f"i-0{u.chance.getrandbits(64):016x}"
    operation = u.chance.choice(
        ["StopInstances", "TerminateInstances", "StartInstances", "DescribeInstances"]
    )
    words = [await _refusal(u, operation, name) for name in (theirs, nobodys)]
    if None not in words and words[0] != words[1]:
        u.watch.broken("I16", f"{operation} of what another account has was answered {words}")


async def _refusal(u: User, operation: str, name: str) -> str | None:
    from tests.sim.client import Refused, Unknown

    try:
        answer = await u.client(operation, InstanceIds=[name])
    except Refused as refused:
        return None if refused.status >= 500 else str(refused).replace(name, "it")
    except Unknown:
        return None
    return f"granted: {answer}"


@deed(0.5)
async def odd_requests(u: User) -> None:
    """Wrong, empty and contradictory: refused, whatever else is going on."""
    odd = u.chance.choice(
        [
            ("RunInstances", {"ImageId": IMAGE, "MinCount": 2, "MaxCount": 1}),
            ("RunInstances", {"ImageId": "ami-0123456789abcdef0", "MinCount": 1, "MaxCount": 1}),
            ("RunInstances", {"ImageId": IMAGE, "MinCount": 1, "MaxCount": 1, "InstanceType": "sim.huge"}),
            ("TerminateInstances", {"InstanceIds": []}),
            ("TerminateInstances", {"InstanceIds": ["i-zz"]}),
            ("DescribeInstances", {"NextToken": "nonsense"}),
            ("DescribeInstances", {"Filters": [{"Name": "no-such-filter", "Values": ["x"]}]}),
            ("MigrateInstances", {}),
            ("CreateVolume", {"Size": 1, "AvailabilityZone": u.world.shape.zone_names[0]}),
        ]
    )
    if await u.ask(odd[0], **odd[1]) is not None and odd[0] != "CreateVolume":
        u.watch.broken("I18", f"{odd} was granted")
