"""Copies of images and images of instances: failed at every step, undone twice, done twice, killed everywhere."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mallee.clc.db import images
from mallee.clc.db import instances as records
from mallee.clc.db.images import Image
from mallee.clc.db.metadata import metadata
from mallee.clc.db.sagas import SAGAS
from mallee.clc.instance import State
from mallee.clc.sagas import copy_image, create_image
from mallee.clc.sagas.making_images import Wish, Workshop
from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.saga import State as SagaState
from tests.sagas.unwinding import (
    Fresh,
    Scene,
    assert_steps_repeat,
    assert_survives_crash_everywhere,
    assert_unwinds_from_everywhere,
    assert_unwinds_undoing_twice,
    run_to_end,
)
from tests.unit.clc.as_a_client import Client
from tests.unit.clc.pretend_cloud import PretendCloud
from tests.unit.clc.pretend_objects import DISK, LOCATION

Worlds = Callable[[str], Fresh]


class Settling(ManualClock):
    """Time in which clusters do what was wished, at every step of it."""

    pretend: PretendCloud

    async def advance(self, seconds: float) -> None:
        await self.pretend.settle()
        await super().advance(seconds)


@pytest.fixture
async def worlds(tmp_path: Path) -> AsyncIterator[Worlds]:
    """Clouds in which an image is about to be made: `copy`, `running` (with a restart) or `stopped`."""
    numbers = itertools.count()
    async with AsyncExitStack() as open_worlds:

        def of(what: str) -> Fresh:
            async def make() -> Scene:
                folder = tmp_path / str(next(numbers))
                await asyncio.to_thread(folder.mkdir)
                db = await Database.open(f"sqlite:///{folder}/clc.db", metadata=metadata, durable=False)
                open_worlds.push_async_callback(db.close)
                return await scene_of(await PretendCloud.make(db, folder), what)

            return make

        yield of


async def scene_of(pretend: PretendCloud, what: str) -> Scene:
    cloud, client = pretend.cloud, Client.root(pretend.cloud, pretend.cloud.admin_account)
    if what == "copy":
        source = (await client.ec2("RegisterImage", Name="source", ImageLocation=LOCATION))["ImageId"]
        made = await client.ec2("CopyImage", SourceImageId=source, SourceRegion="mallee-1", Name="made")
        saga, files = copy_image.saga, (await an_image(pretend, source)).more.files
        wish = Wish(made["ImageId"], cloud.admin_account, source=files)
    else:
        (instance,) = await pretend.run()
        await pretend.settle()
        if what == "stopped":
            await client.ec2("StopInstances", InstanceIds=[instance])
            await pretend.settle()
        made = await client.ec2("CreateImage", InstanceId=instance, Name="made")
        wish = Wish(made["ImageId"], cloud.admin_account, instance_id=instance, restart=what == "running")
        saga = create_image.saga
    # The helper begins the saga itself, under its own id.
    await cloud.db.transact(lambda tx: tx.execute(SAGAS.saga.delete()))
    clock = Settling()
    clock.pretend = pretend
    shop = Workshop(cloud.db, cloud.clusters, clock, cloud.objects)
    return Scene(saga(shop), wish, (pretend, wish), cloud.db, SAGAS, clock)


async def an_image(pretend: PretendCloud, image_id: str) -> Image:
    found = await pretend.cloud.db.read(lambda tx: images.anybodys(tx, image_id))
    assert found is not None
    return found


async def as_before(scene: Scene) -> None:
    """A record that says why it failed, an instance as it was, and nothing in the store."""
    pretend, wish = scene.world
    await pretend.settle()
    image = await an_image(pretend, wish.image_id)
    assert image.state == "failed"
    assert image.more.reason_code.startswith(("Server.", "Client."))
    assert image.more.files is None
    assert set(pretend.objects.held) == {("bucket", "disk.raw")}
    await as_it_was(pretend, wish)


async def as_it_was(pretend: PretendCloud, wish: Wish) -> None:
    if wish.instance_id:
        (row,) = await pretend.cloud.db.read(lambda tx: records.find(tx, [wish.instance_id]))
        assert row.state == (State.RUNNING if wish.restart else State.STOPPED)
        held = pretend.clusters[row.zone].claims
        assert (row.id in held) is wish.restart


async def there(scene: Scene) -> None:
    """An image with its file, and an instance as it was."""
    pretend, wish = scene.world
    await pretend.settle()
    image = await an_image(pretend, wish.image_id)
    assert image.state == "available"
    assert image.more.files is not None
    root = image.more.files.root
    assert root is not None
    assert image.location == f"{root.bucket}/{root.key}"
    data = pretend.objects.held[root.bucket, root.key]
    assert data == (DISK if wish.source else f"disk of {wish.instance_id}".encode().ljust(512, b"\0"))
    assert pretend.objects.owners[root.bucket] == wish.account_id
    await as_it_was(pretend, wish)


KINDS = {"copy": 3, "running": 5, "stopped": 5}  # with how many steps each


@pytest.mark.parametrize("what", KINDS)
async def test_a_failure_at_any_step_leaves_nothing_but_its_reason(worlds: Worlds, what: str) -> None:
    before_no_return = KINDS[what] - (1 if what == "copy" else 2)
    assert await assert_unwinds_from_everywhere(worlds(what), as_before) == before_no_return
    assert await assert_unwinds_undoing_twice(worlds(what), as_before) == before_no_return


@pytest.mark.parametrize("what", KINDS)
async def test_each_step_may_be_done_twice(worlds: Worlds, what: str) -> None:
    assert await assert_steps_repeat(worlds(what), there) == KINDS[what]


@pytest.mark.parametrize("what", KINDS)
async def test_the_controller_may_die_at_any_write(worlds: Worlds, what: str) -> None:
    assert await assert_survives_crash_everywhere(worlds(what), there, as_before) > 4 * KINDS[what]


async def test_a_file_that_is_another_one_by_now_is_not_copied(worlds: Worlds) -> None:
    scene = await worlds("copy")()
    pretend, wish = scene.world
    pretend.objects.held["bucket", "disk.raw"] = bytes(1024)
    assert (await run_to_end(scene)).state is SagaState.UNDONE
    image = await an_image(pretend, wish.image_id)
    assert (image.state, image.more.reason_code) == ("failed", "Client.PreconditionFailed")


async def test_a_bucket_that_is_somebody_elses_is_not_written_to(worlds: Worlds) -> None:
    scene = await worlds("copy")()
    pretend, wish = scene.world
    pretend.objects.owners[wish.bucket] = "somebody"
    assert (await run_to_end(scene)).state is SagaState.UNDONE
    assert (await an_image(pretend, wish.image_id)).more.reason_code == "Client.BucketAlreadyExists"


async def test_what_is_deregistered_while_it_is_made_leaves_no_files(worlds: Worlds) -> None:
    for what in KINDS:
        scene = await worlds(what)()
        pretend, wish = scene.world
        await pretend.cloud.db.transact(
            lambda tx, wish=wish: images.remove(tx, wish.account_id, wish.image_id)
        )  # type: ignore[misc]
        assert (await run_to_end(scene)).state is SagaState.UNDONE
        assert set(pretend.objects.held) == {("bucket", "disk.raw")}
        await pretend.settle()
        await as_it_was(pretend, wish)


async def test_a_disk_that_cannot_be_captured_is_said_with_its_reason(worlds: Worlds) -> None:
    scene = await worlds("running")()
    pretend, wish = scene.world
    for cluster in pretend.clusters.values():
        cluster.capture_fails = Fault(
            Kind.NOT_FOUND, "No node has it.", why="It is lost.", code="no-such-guest"
        )
    assert (await run_to_end(scene)).state is SagaState.UNDONE
    await as_before(scene)
    more = (await an_image(pretend, wish.image_id)).more
    assert more.reason_code == "Client.NoSuchGuest"
    assert more.reason_message == "Client.NoSuchGuest: No node has it. It is lost."


async def test_a_controller_that_is_away_for_a_while_is_waited_for(worlds: Worlds) -> None:
    scene = await worlds("stopped")()
    pretend, _ = scene.world
    away = Fault(Kind.UNAVAILABLE, "The zone does not answer.")
    for cluster in pretend.clusters.values():
        cluster.capture_fails = away
    asked: Callable[[float], Awaitable[None]] = scene.clock.advance

    async def back_later(seconds: float) -> None:
        await asked(seconds)
        if sum(len(each.captures) for each in pretend.clusters.values()) >= 5:
            for cluster in pretend.clusters.values():
                cluster.capture_fails = None

    scene.clock.advance = back_later  # type: ignore[method-assign]
    assert (await run_to_end(scene)).state is SagaState.DONE
    await there(scene)


async def test_an_instance_that_ends_meanwhile_has_no_image(worlds: Worlds) -> None:
    scene = await worlds("running")()
    pretend, wish = scene.world
    client = Client.root(pretend.cloud, wish.account_id)
    await pretend.ask("TerminateInstances", InstanceIds=[wish.instance_id])
    await pretend.settle()
    assert (await run_to_end(scene)).state is SagaState.UNDONE
    (shown,) = (await client.ec2("DescribeImages", ImageIds=[wish.image_id]))["Images"]
    assert shown["State"] == "failed"
    assert shown["StateReason"]["Code"] == "Client.InstanceTerminated"
