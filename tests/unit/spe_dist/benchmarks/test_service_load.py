"""What the client of `spe bench serve` takes for an answer."""

import asyncio
from contextlib import suppress

from spe_dist.benchmarks.service_load import Connections, Target


def test_an_answer_has_a_length_and_its_connection_is_used_again():
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"",
    ]
    connections = 0

    async def serve(reader, writer):
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError):  # the client leaves
            while await reader.readuntil(b"\r\n\r\n") and answers[0]:
                writer.write(answers.pop(0))
        writer.close()

    async def run():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            target = Target("127.0.0.1", server.sockets[0].getsockname()[1], "token")
            client = Connections(target)
            got = [await client.send(target.request(b"")) for _ in range(len(answers))]
            client.close()
            return [(answer.status, answer.body) for answer in got]

    assert asyncio.run(run()) == [(200, b"ok"), (503, b""), (0, b""), (200, b""), (0, b"")]
    assert connections == 3
