"""Ports for engines: where none is free the node's log says where, and the customer who reads why does not."""

import logging
import socket

import pytest

from services.worker.engine_ports import EnginePorts


def test_a_node_without_a_free_port_tells_its_log_where_and_the_customer_only_that(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The error's words become the instance's reason, which its customer reads."""
    with socket.socket() as taken, caplog.at_level(logging.WARNING):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError) as caught:
            EnginePorts(port, port).take("127.0.0.1")
    assert caught.value.strerror == "no port is free for an engine"
    (record,) = caplog.records
    assert (record.__dict__["host"], record.__dict__["first"], record.__dict__["last"]) == ("127.0.0.1", port, port)
