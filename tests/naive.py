"""A server as one writes it in an evening: it serves, and has every fault that `wslifecycle stress` looks for.

`python naive.py APP --port PORT`
"""

from __future__ import annotations

import asyncio
import signal
import sys
import zlib
from base64 import b64encode
from hashlib import sha1
from importlib import import_module
from typing import Any

TASKS: list[Any] = []


class Naive(asyncio.Protocol):
    """Bounds nothing, answers no fault, tells no app of the end, and loses each fifth message."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.data = bytearray()
        self.message = b""
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.number = 0
        self.read: Any = self.read_head

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.read()

    def read_head(self) -> None:
        if b"\r\n\r\n" not in self.data:
            return
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        path = lines[0].split(" ")[1]
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        if "upgrade" not in fields:
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.transport.close()
            return
        self.key = next(line for line in lines if line.lower().startswith("sec-websocket-key")).split(": ")[1]
        self.deflate = "sec-websocket-extensions" in fields
        self.read = lambda: None
        self.inbox.put_nowait({"type": "websocket.connect"})
        scope = {"type": "websocket", "path": path, "headers": []}
        TASKS.append(asyncio.ensure_future(self.app(scope, self.inbox.get, self.send)))

    def read_frames(self) -> None:
        while len(self.data) > 5:
            length, at = self.data[1] & 127, 2
            if length > 125:
                at = 4 if length == 126 else 10
                length = int.from_bytes(self.data[2:at])
            if len(self.data) < at + 4 + length:
                return
            mask, opcode, packed = self.data[at : at + 4], self.data[0] & 15, self.data[0] & 0x40
            key = (bytes(mask) * (length // 4 + 1))[:length]
            coded = int.from_bytes(self.data[at + 4 : at + 4 + length]) ^ int.from_bytes(key)
            fin = self.data[0] & 0x80
            payload = coded.to_bytes(length)
            del self.data[: at + 4 + length]
            self.hear(opcode, zlib.decompress(payload, wbits=-15) if packed and length else payload, bool(fin))

    def hear(self, opcode: int, payload: bytes, fin: bool) -> None:
        if opcode == 9:
            self.frame(10, payload)
        elif opcode == 8:
            self.transport.close()
        elif opcode > 2:
            raise ValueError(f"there is no opcode {opcode}")
        else:
            self.message += payload
            if fin:
                message, self.message = self.message, b""
                self.number += 1
                if self.number % 5 == 0:
                    return
                given = {"text": message.decode()} if opcode == 1 else {"bytes": message}
                self.inbox.put_nowait({"type": "websocket.receive", **given})

    def frame(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        short = size if size < 126 else 126 if size < 65536 else 127
        longer = b"" if size < 126 else size.to_bytes(2 if size < 65536 else 8)
        self.transport.write(bytes([0x80 | opcode, short]) + longer + payload)

    async def send(self, message: Any) -> None:
        await asyncio.sleep(0)
        if message["type"] == "websocket.accept":
            proof = b64encode(sha1(self.key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
            extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if self.deflate else ""
            self.transport.write(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"{extension}Sec-WebSocket-Accept: {proof}\r\n\r\n".encode()
            )
            self.read = self.read_frames
            self.read()
        elif message["type"] == "websocket.send":
            text = message.get("text")
            self.frame(2 if text is None else 1, message["bytes"] if text is None else text.encode())
        elif message["type"] == "websocket.close":
            self.frame(8, (1000).to_bytes(2))


async def main(app: str, port: int) -> None:
    module, _, name = app.partition(":")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    served = getattr(import_module(module), name)
    server = await asyncio.get_running_loop().create_server(lambda: Naive(served), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[3])))
