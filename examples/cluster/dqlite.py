"""A client of dqlite, with the standard library alone: its wire protocol, version 1.

The `dqlite` shell cannot bind blobs; this can. One connection to one node; only the leader runs statements.

    node = Node("127.0.0.1:9101")
    node.open("demo")
    node.execute("INSERT INTO items(rowid, vec) VALUES (?, ?)", (1, vector.tobytes()))
    node.query("SELECT rowid, distance FROM items WHERE vec MATCH ? AND k = 10", (query.tobytes(),))
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Dict, List, Sequence, Tuple

LEADER, CLIENT, OPEN, EXECUTE, QUERY, DUMP, CLUSTER, TRANSFER = 0, 1, 3, 8, 9, 15, 16, 17
FAILURE = 0
VOTER = 0
NOT_LEADER, LEADERSHIP_LOST = 10 | 40 << 8, 10 | 41 << 8  # SQLITE_IOERR, extended by dqlite
INTEGER, FLOAT, TEXT, BLOB, NULL = 1, 2, 3, 4, 5
MORE, DONE = b"\xee" * 8, b"\xff" * 8


class Failure(Exception):
    """An error that a node reports: SQLite's code, or dqlite's own, and a text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code


class LeaderLost(Failure):
    """This node does not lead, or no longer: a write that was under way may have taken effect, or not."""


def padded(data: bytes) -> bytes:
    """Everything is in words of eight bytes."""
    return data + bytes(-len(data) % 8)


def text(value: str) -> bytes:
    return padded(value.encode() + b"\0")


def encoded(parameters: Sequence[Any]) -> bytes:
    """Parameters of a statement: their number, their types, their values."""
    if not parameters:
        return b""
    if len(parameters) > 255:
        raise ValueError(f"{len(parameters)} parameters: dqlite 1.11 takes at most 255 for one statement")
    types, values = bytearray(), []
    for value in parameters:
        if value is None:
            types.append(NULL)
            values.append(bytes(8))
        elif isinstance(value, int):
            types.append(INTEGER)
            values.append(struct.pack("<q", value))
        elif isinstance(value, float):
            types.append(FLOAT)
            values.append(struct.pack("<d", value))
        elif isinstance(value, str):
            types.append(TEXT)
            values.append(text(value))
        else:
            types.append(BLOB)
            values.append(struct.pack("<Q", len(value)) + padded(bytes(value)))
    return padded(bytes([len(types)]) + types) + b"".join(values)


class Reader:
    """Takes values from the body of a response."""

    def __init__(self, body: bytes) -> None:
        self.body, self.at = body, 0

    def take(self, count: int) -> bytes:
        piece = self.body[self.at : self.at + count]
        self.at += count + -count % 8
        return piece

    def number(self) -> int:
        return int(struct.unpack("<q", self.take(8))[0])

    def text(self) -> str:
        return self.take(self.body.index(b"\0", self.at) - self.at + 1)[:-1].decode()

    def value(self, kind: int) -> Any:
        if kind == NULL:
            self.take(8)
            return None
        if kind == FLOAT:
            return struct.unpack("<d", self.take(8))[0]
        if kind == TEXT:
            return self.text()
        if kind == BLOB:
            return self.take(self.number())
        return self.number()


class Node:
    """A connection to one node."""

    def __init__(self, address: str, timeout: float = 5) -> None:
        host, port = address.rsplit(":", 1)
        self.database = 0
        self.socket = socket.create_connection((host, int(port)), timeout)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.sendall(struct.pack("<Q", 1))
            self.call(CLIENT, struct.pack("<Q", 1))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def receive(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self.socket.recv(min(count - len(data), 1 << 20))
            if not piece:
                raise ConnectionError("the node has closed the connection")
            data += piece
        return bytes(data)

    def response(self) -> Reader:
        words, kind = struct.unpack("<IB", self.receive(8)[:5])
        body = Reader(self.receive(8 * words))
        if kind == FAILURE:
            code, message = body.number(), body.text()
            if body.at < len(body.body):  # dqlite 1.11 leaves the names of a query's columns in front of the error
                for _ in range(code - 1):
                    body.text()
                code, message = body.number(), body.text()
            raise (LeaderLost if code in (NOT_LEADER, LEADERSHIP_LOST) else Failure)(code, message)
        return body

    def call(self, kind: int, body: bytes) -> Reader:
        self.socket.sendall(struct.pack("<IBBH", len(body) // 8, kind, 0, 0) + body)
        return self.response()

    def leader(self) -> Tuple[int, str]:
        """The number and the address of the leader; 0 and nothing while there is none."""
        body = self.call(LEADER, bytes(8))
        return body.number(), body.text()

    def nodes(self) -> Dict[str, Tuple[int, bool]]:
        """By address, the number of a node and whether it votes."""
        body = self.call(CLUSTER, struct.pack("<Q", 1))
        found = [(body.number(), body.text(), body.number() == VOTER) for _ in range(body.number())]
        return {address: (number, votes) for number, address, votes in found}

    def transfer(self, number: int) -> None:
        """Makes another node the leader."""
        self.call(TRANSFER, struct.pack("<q", number))

    def open(self, database: str) -> None:
        body = self.call(OPEN, text(database) + bytes(8) + text(""))
        self.database = body.number() & 0xFFFF_FFFF

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Tuple[int, int]:
        """Runs statements; the last rowid and the number of changed rows."""
        body = self.call(EXECUTE, struct.pack("<Q", self.database) + text(sql) + encoded(parameters))
        return body.number(), body.number()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> List[Tuple[Any, ...]]:
        """The rows of a statement. They come in parts."""
        body = self.call(QUERY, struct.pack("<Q", self.database) + text(sql) + encoded(parameters))
        rows: List[Tuple[Any, ...]] = []
        while True:
            columns = body.number()
            for _ in range(columns):
                body.text()
            while body.body[body.at : body.at + 8] not in (MORE, DONE):
                kinds = body.take((columns + 1) // 2)
                rows.append(tuple(body.value(kinds[i // 2] >> 4 * (i % 2) & 15) for i in range(columns)))
            if body.body[body.at : body.at + 8] == DONE:
                return rows
            body = self.response()

    def dump(self, database: str) -> Dict[str, bytes]:
        """The files of the database on this node, which need not lead: the file and its WAL."""
        body = self.call(DUMP, text(database))
        return {body.text(): body.take(body.number()) for _ in range(body.number())}
