"""One end of a link that is measured, as a program: `python -m tests.bench.way ADDRESS` waits there and says its port;
with a port it measures the way there and says what it found."""

import asyncio
import sys

import msgspec

from actors.links.yardstick import be_measured, measure

SECRET = "a-secret-of-some-length"


async def main(address: str, port: str = "") -> None:
    if port:
        print(msgspec.json.encode(await measure(address, int(port), SECRET)).decode(), flush=True)
        return
    server = await asyncio.start_server(
        lambda reader, writer: be_measured(reader, writer, SECRET), address, 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
