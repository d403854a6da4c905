"""What any server in Python has to pay: echoes without ASGI, each a process. `python floors.py KIND --port PORT`.

    tcp         bytes are written back as they come: no frame is looked at
    wsproto     the whole public interface of wsproto over an asyncio.Protocol
    websockets  the same with the Sans-I/O part of websockets
    picows      picows, which has frames in C and calls Python for each

A plain GET is answered by some status, which says that the server is up. Each kind imports only what it needs.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from wslifecycle.conformance.kit import loops

HOST = "127.0.0.1"
EMPTY = b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _Talker(asyncio.Protocol):
    """A Protocol that knows its transport, which is no asyncio.Transport on uvloop."""

    transport: Any

    def connection_made(self, transport: Any) -> None:
        self.transport = transport


class _Echo(asyncio.Protocol):
    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class _FirstBytes(_Talker):
    """Hands the connection to the echo, unless it is a plain GET: the echo itself has nothing to look at."""

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET "):
            self.transport.write(b"HTTP/1.1 200 OK" + EMPTY)
            self.transport.close()
        else:
            self.transport.set_protocol(_Echo(self.transport))
            self.transport.write(data)


async def tcp(port: int) -> asyncio.Server:
    """Bytes as they come."""
    return await asyncio.get_running_loop().create_server(_FirstBytes, HOST, port)


async def wsproto(port: int) -> asyncio.Server:
    """wsproto, message by message."""
    from wsproto import ConnectionType, WSConnection
    from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Request, TextMessage
    from wsproto.utilities import LocalProtocolError, RemoteProtocolError

    class Connection(_Talker):
        def __init__(self) -> None:
            self._connection = WSConnection(ConnectionType.SERVER)
            self._parts: list[Any] = []

        def data_received(self, data: bytes) -> None:
            try:
                self._connection.receive_data(data)
                for event in self._connection.events():
                    self._handle(event)
            except (LocalProtocolError, RemoteProtocolError):
                self.transport.write(b"HTTP/1.1 400 Bad Request" + EMPTY)
                self.transport.close()

        def _handle(self, event: object) -> None:
            send, write = self._connection.send, self.transport.write
            match event:
                case BytesMessage():
                    self._parts.append(event.data)
                    if event.message_finished:
                        write(send(BytesMessage(data=b"".join(self._parts))))
                        self._parts.clear()
                case TextMessage():
                    self._parts.append(event.data)
                    if event.message_finished:
                        write(send(TextMessage(data="".join(self._parts))))
                        self._parts.clear()
                case Ping():
                    write(send(event.response()))
                case CloseConnection():
                    write(send(event.response()))
                    self.transport.close()
                case Request():
                    write(send(AcceptConnection()))

    return await asyncio.get_running_loop().create_server(Connection, HOST, port)


async def websockets(port: int) -> asyncio.Server:
    """websockets, frame by frame."""
    from websockets.frames import Frame, Opcode
    from websockets.http11 import Request
    from websockets.protocol import OPEN
    from websockets.server import ServerProtocol

    class Connection(_Talker):
        def __init__(self) -> None:
            self._protocol = ServerProtocol()
            self._parts: list[Frame] = []

        def data_received(self, data: bytes) -> None:
            protocol = self._protocol
            protocol.receive_data(data)
            for event in protocol.events_received():
                if isinstance(event, Frame):
                    if event.opcode in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
                        self._parts.append(event)
                        if event.fin and protocol.state is OPEN:
                            self._reply()
                elif isinstance(event, Request):
                    protocol.send_response(protocol.accept(event))
            for answer in protocol.data_to_send():
                if answer:
                    self.transport.write(answer)
                else:
                    self.transport.write_eof()
            if protocol.close_expected():
                self.transport.close()

        def _reply(self) -> None:
            first = self._parts[0]
            data = first.data if len(self._parts) == 1 else b"".join(frame.data for frame in self._parts)
            self._parts.clear()
            if first.opcode is Opcode.TEXT:
                self._protocol.send_text(data)
            else:
                self._protocol.send_binary(data)

    return await asyncio.get_running_loop().create_server(Connection, HOST, port)


async def picows(port: int) -> asyncio.Server:
    """picows, frame by frame."""
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

    class Listener(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_bytes(), frame.fin)

    return await ws_create_server(lambda request: Listener(), HOST, port)


KINDS: dict[str, Callable[[int], Awaitable[asyncio.Server]]] = {
    "tcp": tcp,
    "wsproto": wsproto,
    "websockets": websockets,
    "picows": picows,
}


async def serve(kind: str, port: int) -> None:
    """Serves until it is ended."""
    async with await KINDS[kind](port) as server:
        await server.serve_forever()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    loops.add_option(parser)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    with loops.runner(parser, arguments.loop) as runner:
        runner.run(serve(arguments.kind, arguments.port))


if __name__ == "__main__":
    main()
