"""Large bodies past the parser, on both event loops: slow readers, lost clients, files that end too soon."""

import asyncio
import os
import socket
from pathlib import Path

import pytest
import uvloop
from s3_house import House, Pieces, Thing
from s3_requests import request, take

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
BIG = os.urandom(6_000_001)
OPEN = Path("/proc/self/fd")


@pytest.fixture(params=LOOPS)
def run(request):
    """Run an exchange with a house on the loop of either kind."""

    def running(talk, **options) -> None:
        async def inside() -> None:
            async with asyncio.timeout(30), House(**options).open() as house:
                await talk(house)

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.get_loop()  # the first loop of a kind opens what stays open
        before = len(list(OPEN.iterdir()))
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(inside())
        assert len(list(OPEN.iterdir())) <= before

    return running


async def connected(house, *, small=False):
    sock = socket.socket()
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", house.port))
    return await asyncio.open_connection(sock=sock, limit=1 << 16)


def test_a_file_reaches_a_slow_reader_whole_and_in_order(run) -> None:
    async def talk(house) -> None:
        house.store["b", "k"] = Thing(BIG, {}, {})
        reader, writer = await connected(house, small=True)
        for _ in range(2):
            writer.write(request(house, "GET", "/b/k"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"content-length: %d" % len(BIG) in head
            got = bytearray()
            while len(got) < len(BIG):
                got += await reader.read(min(30_000, len(BIG) - len(got)))
            assert got == BIG
        writer.close()

    run(talk)


def test_a_client_that_goes_away_leaves_nothing_open(run) -> None:
    async def talk(house) -> None:
        house.store["b", "k"] = Thing(BIG, {}, {})
        for _ in range(5):
            reader, writer = await connected(house, small=True)
            writer.write(request(house, "GET", "/b/k"))
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
        reader, writer = await connected(house)  # others are served meanwhile
        writer.write(request(house, "GET", "/b/none"))
        assert (await take(reader)).code == "NoSuchKey"
        writer.close()

    run(talk)


@pytest.mark.parametrize("fault", ["short", "unreadable"])
def test_what_cannot_be_sent_to_its_end_is_cut(run, fault, monkeypatch) -> None:
    async def talk(house) -> None:
        monkeypatch.setattr("s3_house.Pieces", spoiled(fault))
        house.store["b", "k"] = Thing(BIG, {}, {})
        reader, writer = await connected(house)
        writer.write(request(house, "GET", "/b/k"))
        await reader.readuntil(b"\r\n\r\n")
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readexactly(len(BIG))
        writer.close()

    run(talk)


def spoiled(fault):
    def make(body) -> Pieces:
        if fault == "unreadable":
            return Pieces(body, fail_at=2 << 20)
        short = Pieces(body[:3_000_000])
        short.length = len(body)
        return short

    return make


def test_a_small_body_that_cannot_be_read_is_an_error_in_time(run, monkeypatch) -> None:
    async def talk(house) -> None:
        monkeypatch.setattr("s3_house.Pieces", lambda body: Pieces(body, fail_at=0))
        house.store["b", "k"] = Thing(BIG[:20_000], {}, {})
        reader, writer = await connected(house)
        writer.write(request(house, "GET", "/b/k"))
        assert (await take(reader)).code == "InternalError"
        writer.close()

    run(talk)


@pytest.mark.parametrize("pieces", [1, 7, 4096, 70_000, 1 << 20])
def test_an_upload_in_any_pieces_is_taken_whole(run, pieces) -> None:
    size = 300_001 if pieces < 4096 else 3_000_001

    async def talk(house) -> None:
        reader, writer = await connected(house)
        whole = request(house, "PUT", "/b/k", body=BIG[:size])
        first = len(whole) - size + 5 * pieces
        writer.write(whole[:first])
        for at in range(first, len(whole), max(pieces, 1000)):
            writer.write(whole[at : at + max(pieces, 1000)])
            await writer.drain()
        assert (await take(reader)).status == 200
        assert house.store["b", "k"].body == BIG[:size]
        writer.write(request(house, "GET", "/b/k"))
        assert (await take(reader)).body == BIG[:size]
        writer.close()

    run(talk)


def test_uploads_side_by_side_do_not_mix(run) -> None:
    async def talk(house) -> None:
        async def put(name: int) -> None:
            reader, writer = await connected(house)
            body = bytes([name]) * (1_500_000 + name)
            for _ in range(2):
                writer.write(request(house, "PUT", f"/b/{name}", body=body))
                assert (await take(reader)).status == 200
            assert house.store["b", str(name)].body == body
            writer.close()

        await asyncio.gather(*map(put, range(8)))

    run(talk)


def test_a_client_lost_in_an_upload_leaves_nothing(run) -> None:
    async def talk(house) -> None:
        for cut in (400, 200_000, 1_500_000):
            reader, writer = await connected(house)
            writer.write(request(house, "PUT", "/b/k", body=BIG)[:cut])
            await writer.drain()
            writer.transport.abort()
        reader, writer = await connected(house)
        writer.write(request(house, "PUT", "/b/l", body=BIG))
        assert (await take(reader)).status == 200
        assert list(house.store) == [("b", "l")]
        writer.close()

    run(talk)
