"""Answers for those whom the event loop cannot answer any more: written to their sockets, past it.

Only for the very end of a process. It touches no connection whose answer has begun, so nobody gets two.
"""

import contextlib
import ctypes
import os
import socket
import struct
import sys
from typing import Any

from service.bare_answer import refusal

RETRY_AFTER_S = 5
READ_BYTES, READS = 1 << 20, 64
SO_ATTACH_FILTER = 26
NO_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
"""A socket filter (classic BPF: code, jumps, operand): load the TCP flags; with SYN drop the packet, else keep it."""


def let_nobody_in(listener: socket.socket) -> None:
    """From now on no client gets through to the port; those who have got through before still wait to be accepted.

    Nothing comes between the last `accept` and `close`: a new client's kernel asks again after a second, and is told
    that the port is closed. On Linux; elsewhere it does nothing.
    """
    if sys.platform == "linux":
        program = b"".join(struct.pack("HBBI", *instruction) for instruction in NO_SYN)
        kept = ctypes.create_string_buffer(program, len(program))
        with contextlib.suppress(OSError):
            address = struct.pack("HP", len(NO_SYN), ctypes.addressof(kept))
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, address)


def refuse_waiting(listener: socket.socket, message: str) -> list[socket.socket]:
    """Whoever has connected and was not let in yet, for a port that is closed next; closing would reset them.

    The connections are returned, to be kept until the clients have read their answers.
    """
    let_nobody_in(listener)
    refused = []
    with contextlib.suppress(OSError):  # no more of them, or the listener is closed
        while True:
            connection, _ = listener.accept()
            refused.append(connection)
            _refuse(connection, message)
    return refused


def refuse_open(connections: set[Any], message: str) -> None:
    """Every connection of uvicorn's that has a request without an answer, or one that was not even read."""
    for connection in list(connections):
        cycle = connection.cycle
        waits = cycle is not None and not cycle.response_complete
        number = connection.transport.get_extra_info("socket").fileno()
        if number < 0 or (waits and cycle.response_started):
            continue
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as client:
            if waits or client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                _refuse(client, message)


def _refuse(client: socket.socket, message: str) -> None:
    with contextlib.suppress(OSError):
        client.setblocking(False)
        client.send(refusal("unavailable", message, retry_after_s=RETRY_AFTER_S))
        client.shutdown(socket.SHUT_WR)
        for _ in range(READS):  # what is left unread turns the end into a reset, and the answer with it
            if not client.recv(READ_BYTES):
                break
