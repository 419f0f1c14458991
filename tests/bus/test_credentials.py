"""Who we are to somebody else's server: credentials, nkeys, users, tokens; what is wrong with them is told."""

import asyncio
from pathlib import Path

import pytest

from bus.address import asking, public
from bus.bus import Bus
from bus.connection import Connection
from bus.errors import UnusableServer
from schemas.ids import NodeId
from tests.facts import joined
from tests.foreign import USER, Key, Operator, foreign
from tests.manual import snippet


async def records(url: str) -> int:
    bus = await Bus.connect(url, "troupe", "test", NodeId("n1"))
    try:
        return await bus.log.record(joined("n1"), deadline_s=10)
    finally:
        await bus.close()


def jetstream(folder: Path) -> str:
    return f'jetstream {{ store_dir: "{folder}/store" }}\n'


async def test_an_operators_credentials(tmp_path: Path) -> None:
    operator = Operator()
    creds = operator.credentials(tmp_path / "troupe.creds")
    async with foreign(tmp_path / "nats", operator.configuration(tmp_path / "store")) as server:
        url = asking(server.url, creds=str(creds))
        assert await records(url)
        assert creds.read_text().split()[3] not in url
        stranger = Operator().credentials(tmp_path / "stranger.creds")
        with pytest.raises(UnusableServer, match="does not take this token or these credentials"):
            await Connection.open(asking(server.url, creds=str(stranger)), "test")
        with pytest.raises(UnusableServer, match="does not take this token or these credentials"):
            await Connection.open(server.url, "test")


async def test_credentials_that_were_renewed_count_at_the_next_connect(tmp_path: Path) -> None:
    operator = Operator()
    creds = operator.credentials(tmp_path / "troupe.creds")
    async with foreign(tmp_path / "nats", operator.configuration(tmp_path / "store")) as server:
        connection = await Connection.open(asking(server.url, creds=str(creds)), "test")
        over, before = connection.life_event(), creds.read_text()
        operator.credentials(creds)
        assert creds.read_text() != before
        await connection.client.force_reconnect()
        async with asyncio.timeout(20):
            await over.wait()
            await connection.until_up()
        assert (await connection.jetstream.account_info()).streams == 0
        await connection.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read"),
        ("nothing", "holds no seed"),
        ("-----BEGIN USER NKEY SEED-----\n{seed}\n------END", "holds no user's JWT"),
        ("-----BEGIN USER NKEY SEED-----\n{broken}\n------END", "holds no seed"),
    ],
)
async def test_a_file_that_is_none_is_told_before_anything_is_asked(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    if text is not None:
        seed = Key(USER).seed
        broken = f"{seed[:10]}{'B' if seed[10] == 'A' else 'A'}{seed[11:]}"
        (tmp_path / "x.creds").write_text(text.format(seed=seed, broken=broken))
    with pytest.raises(UnusableServer, match=rf"x\.creds.*{reason}"):
        await Connection.open(f"nats://127.0.0.1:1?creds={tmp_path}/x.creds", "test")


async def test_an_nkey_a_user_and_a_token(tmp_path: Path) -> None:
    key = Key(USER)
    (tmp_path / "seed").write_text(key.seed + "\n")
    users = f'authorization {{ users: [{{nkey: {key.public}}}, {{user: me, password: "p@ss/word"}}] }}\n'
    async with foreign(tmp_path / "users", users + jetstream(tmp_path)) as server:
        assert await records(asking(server.url, nkey=f"{tmp_path}/seed"))
        named = server.url.replace("://", "://me:p%40ss%2Fword@")
        assert await records(named)
        assert public(named) == server.url
    async with foreign(
        tmp_path / "token", f'authorization {{ token: "a b" }}\n{jetstream(tmp_path)}'
    ) as server:
        assert await records(server.url.replace("://", "://a%20b@"))


@pytest.mark.parametrize(
    ("publish", "subscribe", "missing"),
    [
        (["$KV.>"], [">"], r"publish to \$JS\.API\.INFO"),
        (["$JS.API.INFO"], [">"], r"publish to \$JS\.API\.STREAM\.INFO\.troupe_events"),
        (["$JS.API.>"], [">"], r"publish to troupe\.evt\.seen\.node\.n1"),
        ([">"], ["troupe.>"], r"subscribe to _INBOX\."),
    ],
)
async def test_what_is_not_permitted_is_named(
    tmp_path: Path, publish: list[str], subscribe: list[str], missing: str
) -> None:
    operator = Operator()
    creds = operator.credentials(tmp_path / "x.creds", pub={"allow": publish}, sub={"allow": subscribe})
    async with foreign(tmp_path / "nats", operator.configuration(tmp_path / "store")) as server:
        with pytest.raises(UnusableServer, match=f"does not permit us to {missing}"):
            await records(asking(server.url, creds=str(creds)))


async def test_the_manuals_permissions_are_enough_for_a_bus(tmp_path: Path) -> None:
    users = f"authorization {{ users: [{{user: me, password: pass, {snippet('joining.md', 'permissions')} }}] }}\n"
    async with foreign(tmp_path / "users", users + jetstream(tmp_path)) as server:
        assert await records(server.url.replace("://", "://me:pass@"))
