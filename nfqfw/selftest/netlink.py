"""The little netlink that the kernel's twin needs: connections (ctnetlink) and logged packets (nfnetlink_log).

Messages are native order, payloads of attributes big-endian, as nfnetlink has them.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from nfqfw.selftest.outcome import Connection

NETLINK_NETFILTER = 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
CTNETLINK, ULOG = 1 << 8, 4 << 8
SOL_NETLINK, NETLINK_NO_ENOBUFS = 270, 5

TCP_STATES = ("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE",
              "SYN_SENT2")
SCTP_STATES = ("NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD",
               "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT")


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by kind (flags masked off); of a repeated kind the last."""
    out, at = {}, 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        out[kind & 0x3fff] = data[at + 4:at + length]
        at += (length + 3) & ~3
    return out


def message(kind: int, flags: int, family: int, resource: int, body: bytes = b"") -> bytes:
    payload = struct.pack(">BBH", family, 0, resource) + body
    return struct.pack("=IHHII", 16 + len(payload), kind, flags | NLM_F_REQUEST, 1, 0) + payload


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        yield kind, data[at + 16:at + length]
        at += (length + 3) & ~3


class Ctnetlink:
    """Connections of the namespace in which it is made."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.settimeout(5)

    def _ask(self, request: bytes) -> Iterator[bytes]:
        self.socket.send(request)
        while True:
            for kind, data in messages(self.socket.recv(1 << 20)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    code = struct.unpack_from("=i", data)[0]
                    if code:
                        raise OSError(-code, "ctnetlink")
                    return
                yield data

    def flush(self) -> None:
        """Forget every connection of the namespace."""
        for _ in self._ask(message(CTNETLINK | 2, NLM_F_ACK, 0, 0)):
            pass

    def list(self) -> list[Connection]:
        return sorted(connection(attributes(data[4:])) for data in self._dump())

    def take(self) -> list[Connection]:
        """List and forget: one walk of the kernel's (global, large) table instead of two."""
        found = [(data[0], attributes(data[4:])) for data in self._dump()]
        missed = False
        for family, parts in found:
            body = attribute(0x8001, parts[1]) + (attribute(18, parts[18]) if 18 in parts else b"")
            try:
                for _ in self._ask(message(CTNETLINK | 2, NLM_F_ACK, family, 0, body)):
                    pass
            except FileNotFoundError:       # it went by itself, or in place of another of the same tuple (zones of one direction)
                missed = True
        if missed:
            self.flush()
        return sorted(connection(parts) for _, parts in found)

    def _dump(self) -> Iterator[bytes]:
        return self._ask(message(CTNETLINK | 1, NLM_F_DUMP, 0, 0))

    def close(self) -> None:
        self.socket.close()


def _tuple(data: bytes) -> tuple[int, str, str, int, int]:
    """(protocol, source, destination, source key, destination key); keys as nfqfw has them: ports, or id and type/code."""
    parts = attributes(data)
    ip, proto = attributes(parts[1]), attributes(parts[2])
    if 1 in ip:
        ends = [socket.inet_ntop(socket.AF_INET, ip[k]) for k in (1, 2)]
    else:
        ends = [socket.inet_ntop(socket.AF_INET6, ip[k]) for k in (3, 4)]
    number = proto[1][0]
    if number in (1, 58):
        first = 4 if number == 1 else 7
        return number, ends[0], ends[1], struct.unpack(">H", proto[first])[0], proto[first + 1][0] << 8 | proto[first + 2][0]
    sport = struct.unpack(">H", proto[2])[0] if 2 in proto else 0
    dport = struct.unpack(">H", proto[3])[0] if 3 in proto else 0
    return number, ends[0], ends[1], sport, dport


def _tuple_zone(data: bytes) -> int:
    parts = attributes(data)
    return struct.unpack(">H", parts[3])[0] if 3 in parts else 0


def _state(parts: dict[int, bytes], number: int) -> str:
    info = attributes(parts[4]) if 4 in parts else {}
    if number == 6 and 1 in info:
        return TCP_STATES[attributes(info[1])[1][0]]
    if number == 132 and 3 in info:
        return SCTP_STATES[attributes(info[3])[1][0]]
    return ""


def _word(parts: dict[int, bytes], kind: int) -> int:
    return struct.unpack(">I", parts[kind])[0] if kind in parts else 0


def connection(parts: dict[int, bytes]) -> Connection:
    original, reply = _tuple(parts[1]), _tuple(parts[2])
    zone = struct.unpack(">H", parts[18])[0] * 0x10001 if 18 in parts else _tuple_zone(parts[1]) | _tuple_zone(parts[2]) << 16
    return Connection(original[0], original[1:], reply[1:], _word(parts, 3), _state(parts, original[0]), _word(parts, 7),
                      _word(parts, 8), zone)


class PacketLog:
    """Packets that rules of the namespace send to nfnetlink_log groups, in the order in which they were logged."""

    def __init__(self, groups: tuple[int, ...]) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.settimeout(2)
        for group in groups:
            for body in (attribute(1, b"\1"), attribute(2, struct.pack(">IBB", 0xffff, 2, 0)), attribute(5, struct.pack(">I", 1))):
                self.socket.send(message(ULOG | 1, NLM_F_ACK, 0, group, body))
                self.socket.recv(4096)
        self.socket.setblocking(False)

    def drain(self) -> list[tuple[int, int, bytes, bytes]]:
        """(group, mark, prefix, packet) of everything that waits."""
        out = []
        while True:
            try:
                data = self.socket.recv(1 << 17)
            except BlockingIOError:
                return out
            for kind, body in messages(data):
                if kind == ULOG:
                    parts = attributes(body[4:])
                    group = struct.unpack_from(">H", body, 2)[0]
                    out.append((group, _word(parts, 2), parts.get(10, b"").rstrip(b"\0"), parts.get(9, b"")))

    def close(self) -> None:
        self.socket.close()
