"""A connection that the event loop has closed under aiokafka is a lost one, and no bug of whoever writes next."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

import adapters.kafka


class ClosedTransport:
    """As uvloop's is between a reset and the call of `connection_lost`."""

    closed = False

    def write(self, data: bytes) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    def close(self) -> None:
        self.closed = True


async def sent_to_a_closed_transport() -> tuple[AIOKafkaConnection, ClosedTransport]:
    assert adapters.kafka
    connection = AIOKafkaConnection("127.0.0.1", 9092)
    connection._writer, connection._reader = transport, _ = ClosedTransport(), asyncio.StreamReader()
    connection._read_task = asyncio.create_task(asyncio.sleep(60))
    with pytest.raises(KafkaConnectionError):
        await connection.send(MetadataRequest([]))
    return connection, transport


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_write_to_a_closed_transport_is_a_lost_connection(run: object) -> None:
    assert callable(run)
    connection, transport = run(sent_to_a_closed_transport())
    assert transport.closed and not connection.connected()
