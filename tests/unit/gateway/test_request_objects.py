"""What a request needed is freed as soon as it has ended: the collector has nothing to walk through."""

import asyncio
import gc
from pathlib import Path

from services.gateway.dispatch import Dispatch
from services.gateway.exchange import Exchange
from services.gateway.metering import Meter
from tests.servers.gateway_in_process import gateway_in_process, read_answer
from tests.servers.scripted_engine import ReceivedRequest, chat_answer, scripted_engine, whole


def _alive() -> int:
    return sum(type(each) in (Exchange, Dispatch, Meter) for each in gc.get_objects())


async def test_nothing_of_an_ended_request_waits_for_the_collector(tmp_path: Path) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(chat_answer(request)))

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path) as made:
        made.service(engine.port)
        reader, writer = await made.connect()
        gc.collect()
        before = _alive()
        gc.disable()
        try:
            for _ in range(5):
                writer.write(made.request())
                assert (await read_answer(reader)).status == 200
            await made.ended(5)
            assert _alive() == before
        finally:
            gc.enable()
            writer.close()
