"""A program for tests: waits at an address to be measured; says its port, and knows the secret `secret`."""

import asyncio
import sys

from actors.links.yardstick import be_measured


async def main(address: str) -> None:
    async with await asyncio.start_server(lambda r, w: be_measured(r, w, "secret"), address, 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
