"""Capture files: pcap and pcapng, read as IP packets with their time.

Written here because the formats are small and replay must start without loading a packet library.  Sources:
draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, tcpdump.org/linktypes.html.

Both byte orders, micro- and nanoseconds, any pcapng time resolution; link types in LINKS.  A frame that carries no IPv4 or
IPv6 (ARP, ...) is skipped and counted.  What the capture cut off stays known: `total` is the packet's real length.
A file that ends inside a record raises NfqfwError after everything before it was given.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from nfqfw.errors import NfqfwError
from nfqfw.limits import CAPTURE_RECORD_BYTES

NANOSECONDS = 1_000_000_000
PCAP_MAGICS = {             # first four bytes: byte order, ns per unit of the second time word
    b"\xa1\xb2\xc3\xd4": (">", 1000), b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\x3c\x4d": (">", 1), b"\x4d\x3c\xb2\xa1": ("<", 1),
}
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6
OPTION_NAME, OPTION_RESOLUTION, OPTION_OFFSET = 2, 9, 14
ETHERTYPES = {0x0800, 0x86DD}
VLAN_TAGS = {0x8100, 0x88A8, 0x9100}


class Captured(NamedTuple):
    """One IP packet of a capture."""

    number: int                 # of the frame in the file, from 1
    time: int                   # ns since the epoch
    data: bytes                 # from the IP header on, as captured (link-layer padding removed)
    total: int                  # bytes the packet had; more than len(data) when the capture cut it
    interface: str              # pcapng: name of the interface, "" = unknown
    hwaddr: bytes               # source link-layer address, b"" = unknown


class CaptureError(NfqfwError):
    """The file is no capture, is cut, or has a link type that carries no IP."""


# ---- link layers: frame -> (offset of the IP header, source address) or None ------------------------------------------

def _ethernet(frame: bytes) -> tuple[int, bytes] | None:
    at = 12
    while len(frame) >= at + 4 and int.from_bytes(frame[at:at + 2]) in VLAN_TAGS:
        at += 4
    if int.from_bytes(frame[at:at + 2]) not in ETHERTYPES:
        return None
    return at + 2, frame[6:12]


def _cooked(frame: bytes) -> tuple[int, bytes] | None:
    """Linux cooked capture (SLL): 16 bytes, protocol in the last two, address of up to 8 bytes at 6."""
    if int.from_bytes(frame[14:16]) not in ETHERTYPES:
        return None
    return 16, frame[6:6 + min(8, int.from_bytes(frame[4:6]))]


def _cooked2(frame: bytes) -> tuple[int, bytes] | None:
    """SLL2: 20 bytes, protocol in the first two, length of the address at 11, address at 12."""
    if int.from_bytes(frame[0:2]) not in ETHERTYPES:
        return None
    return 20, frame[12:12 + min(8, frame[11] if len(frame) > 11 else 0)]


def _raw(frame: bytes) -> tuple[int, bytes] | None:
    return 0, b""


def _loopback(frame: bytes) -> tuple[int, bytes] | None:
    """BSD loopback: 4 bytes of address family in either byte order; the IP version says the rest."""
    return 4, b""


LINKS: dict[int, tuple[str, Callable[[bytes], tuple[int, bytes] | None]]] = {
    0: ("loopback", _loopback), 1: ("Ethernet", _ethernet), 12: ("raw IP", _raw), 14: ("raw IP", _raw), 101: ("raw IP", _raw),
    108: ("OpenBSD loopback", _loopback), 113: ("Linux cooked", _cooked), 228: ("raw IPv4", _raw), 229: ("raw IPv6", _raw),
    276: ("Linux cooked v2", _cooked2),
}


def ip_packet(link: int, frame: bytes, original: int) -> tuple[bytes, int, bytes] | None:
    """(bytes from the IP header on, length of the whole packet, source address) of a frame; None if it carries no IP.

    Ethernet pads short frames: what is behind the length that a sound IP header claims is cut off, as the kernel does.
    """
    found = LINKS[link][1](frame)
    if found is None:
        return None
    start, source = found
    data = frame[start:]
    total = max(original - start, len(data))
    if not data or data[0] >> 4 not in (4, 6):
        return None
    if data[0] >> 4 == 4 and len(data) >= 20:
        claimed = int.from_bytes(data[2:4])
        if claimed == 0 and total > 1500:               # TSO at the sender: the length is not filled in yet
            claimed = total
    elif data[0] >> 4 == 6 and len(data) >= 40:
        claimed = 40 + int.from_bytes(data[4:6]) or total
    else:
        return data, total, source
    if 20 <= claimed < total:
        return data[:claimed], claimed, source
    return data, total, source


# ---- files ------------------------------------------------------------------------------------------------------------

class Capture:
    """An open capture file; iterate once.  `skipped` counts frames without IP.  A context manager."""

    def __init__(self, path: str | Path):
        self.path = str(path)
        self.skipped = 0
        self._frames = 0
        try:
            self._file: BinaryIO = open(path, "rb")
        except OSError as error:
            raise CaptureError(f"{path}: {error.strerror}") from error
        self._magic = self._file.read(4)
        if self._magic not in PCAP_MAGICS and self._magic != PCAPNG_MAGIC:
            self._file.close()
            raise CaptureError(f"{path}: not a pcap or pcapng file", "write one with: tcpdump -w FILE")

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Captured]:
        frames = self._pcapng() if self._magic == PCAPNG_MAGIC else self._pcap()
        for link, time, frame, original, interface in frames:
            self._frames += 1
            if link not in LINKS:
                raise CaptureError(f"{self.path}: frame {self._frames}: link type {link} is not read",
                                   "capture on an Ethernet, raw IP, loopback or 'any' interface")
            packet = ip_packet(link, frame, original)
            if packet is None:
                self.skipped += 1
                continue
            data, total, source = packet
            yield Captured(self._frames, time, data, total, interface, source)

    def _read(self, size: int, what: str) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise CaptureError(f"{self.path}: the file ends inside {what} after frame {self._frames}")
        return data

    def _sized(self, size: int) -> int:
        if size > CAPTURE_RECORD_BYTES:
            raise CaptureError(f"{self.path}: a record of {size} bytes after frame {self._frames}: the file is damaged")
        return size

    def _pcap(self) -> Iterator[tuple[int, int, bytes, int, str]]:
        order, unit = PCAP_MAGICS[self._magic]
        header = self._read(20, "its header")
        link = struct.unpack(order + "HHiIII", header)[5] & 0x03FFFFFF     # the high bits describe a frame check sequence
        record = struct.Struct(order + "IIII")
        while head := self._file.read(16):
            if len(head) < 16:
                raise CaptureError(f"{self.path}: the file ends inside a record header after frame {self._frames}")
            seconds, fraction, size, original = record.unpack(head)
            frame = self._read(self._sized(size), "a packet")
            yield link, seconds * NANOSECONDS + fraction * unit, frame, original, ""

    def _pcapng(self) -> Iterator[tuple[int, int, bytes, int, str]]:
        order = "<"
        interfaces: list[_Interface] = []
        kind_bytes = self._magic
        while kind_bytes:
            if kind_bytes == PCAPNG_MAGIC:
                order, interfaces = self._section(), []
            else:
                kind = struct.unpack(order + "I", kind_bytes)[0]
                size = struct.unpack(order + "I", self._read(4, "a block"))[0]
                if size < 12 or size % 4:
                    raise CaptureError(f"{self.path}: a block of {size} bytes after frame {self._frames}: the file is damaged")
                body = self._read(self._sized(size) - 8, "a block")[:-4]
                if kind == INTERFACE:
                    interfaces.append(_Interface.read(order, body))
                elif kind in (ENHANCED_PACKET, OLD_PACKET, SIMPLE_PACKET):
                    yield self._packet(order, kind, body, interfaces)
            kind_bytes = self._file.read(4)
            if 0 < len(kind_bytes) < 4:
                raise CaptureError(f"{self.path}: the file ends inside a block after frame {self._frames}")

    def _section(self) -> str:
        """Rest of a section header block; returns the section's byte order."""
        size, magic = self._read(4, "its header"), self._read(4, "its header")
        order = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}.get(magic)
        if order is None:
            raise CaptureError(f"{self.path}: a section without byte order after frame {self._frames}: the file is damaged")
        length = struct.unpack(order + "I", size)[0]
        if length < 28:
            raise CaptureError(f"{self.path}: a section header of {length} bytes: the file is damaged")
        self._read(self._sized(length) - 12, "its header")
        return order

    def _packet(self, order: str, kind: int, body: bytes, interfaces: list[_Interface]) -> tuple[int, int, bytes, int, str]:
        damaged = CaptureError(f"{self.path}: frame {self._frames + 1} is damaged")
        layout = {ENHANCED_PACKET: "IIIII", OLD_PACKET: "HHIIII", SIMPLE_PACKET: "I"}[kind]
        head = struct.calcsize("=" + layout)
        if len(body) < head:
            raise damaged
        fields = struct.unpack(order + layout, body[:head])
        number = fields[0] if kind != SIMPLE_PACKET else 0
        if number >= len(interfaces):
            raise damaged
        interface = interfaces[number]
        if kind == SIMPLE_PACKET:                       # carries neither time nor captured length
            high = low = 0
            original = fields[0]
            size = min(original, interface.snaplen or original, len(body) - head)
        else:
            high, low, size, original = fields[-4:]
        if size > len(body) - head:
            raise damaged
        time = interface.nanoseconds((high << 32) | low) if kind != SIMPLE_PACKET else 0
        return interface.link, time, body[head:head + size], original, interface.name


class _Interface(NamedTuple):
    """An interface description block of pcapng."""

    link: int
    snaplen: int
    name: str
    per_second: int             # units of the time stamps
    offset: int                 # seconds

    @classmethod
    def read(cls, order: str, body: bytes) -> _Interface:
        link, _, snaplen = struct.unpack(order + "HHI", body[:8].ljust(8, b"\0"))
        name, per_second, offset, at = "", 1_000_000, 0, 8
        while at + 4 <= len(body):
            code, size = struct.unpack(order + "HH", body[at:at + 4])
            value = body[at + 4:at + 4 + size]
            if len(value) < size:                       # runs over the block's end
                break
            if code == OPTION_NAME:
                name = value.decode("utf-8", "replace")
            elif code == OPTION_RESOLUTION and size == 1:
                per_second = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** min(value[0], 18)
            elif code == OPTION_OFFSET and size == 8:
                offset = struct.unpack(order + "q", value)[0]
            elif code == 0:
                break
            at += 4 + size + -size % 4
        return cls(link, snaplen, name, per_second, offset)

    def nanoseconds(self, units: int) -> int:
        return self.offset * NANOSECONDS + units * NANOSECONDS // self.per_second
