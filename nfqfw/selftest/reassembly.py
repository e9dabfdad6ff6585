"""IPv4 reassembly before local delivery, as Linux does it: part of the router model, not of nfqfw.

Only what a case needs: any order, duplicates ignored, a partial overlap destroys the datagram (spec/conntrack.md 3).
"""

from __future__ import annotations

import struct

from nfqfw.selftest.packets import checksum


class Reassembly:
    """Datagrams being collected, by (source, destination, identification, protocol)."""

    def __init__(self) -> None:
        self.queues: dict[bytes, _Queue] = {}

    def add(self, data: bytes) -> bytes | None:
        """The packet itself when it is no fragment, the datagram that it completes, or None."""
        word = struct.unpack_from(">H", data, 6)[0]
        if not word & 0x3fff:
            return data
        key = data[4:6] + data[9:10] + data[12:20]
        queue = self.queues.setdefault(key, _Queue())
        head = (data[0] & 15) * 4
        payload = data[head:struct.unpack_from(">H", data, 2)[0]]
        offset, more = (word & 0x1fff) * 8, bool(word & 0x2000)
        if more:
            payload = payload[:len(payload) & ~7]
        if not queue.put(offset, payload, more, data[:head]):
            del self.queues[key]
            return None
        whole = queue.whole()
        if whole is not None:
            del self.queues[key]
        return whole


class _Queue:
    def __init__(self) -> None:
        self.parts: dict[int, bytes] = {}
        self.header = b""
        self.end = 0
        self.last = False
        self.tos = 0
        self.largest = self.largest_df = 0

    def put(self, offset: int, payload: bytes, more: bool, header: bytes) -> bool:
        """False when the datagram must be forgotten."""
        end = offset + len(payload)
        if not payload:
            return False
        if not more:
            if end < self.end or (self.last and end != self.end):
                return False
            self.last, self.end = True, end
        elif end > self.end:
            if self.last:
                return False
            self.end = end
        for run_start, run_end in self.runs():
            if offset >= run_start and end <= run_end:
                return True
        if any(start < end and offset < start + len(part) for start, part in self.parts.items()):
            return False
        self.parts[offset] = payload
        if offset == 0:
            self.header = header
        self.largest = max(self.largest, len(header) + len(payload))
        if header[6] & 0x40:
            self.largest_df = max(self.largest_df, len(header) + len(payload))
        return True

    def runs(self) -> list[tuple[int, int]]:
        """Contiguous ranges received so far."""
        out: list[tuple[int, int]] = []
        for start in sorted(self.parts):
            end = start + len(self.parts[start])
            if out and out[-1][1] == start:
                out[-1] = (out[-1][0], end)
            else:
                out.append((start, end))
        return out

    def whole(self) -> bytes | None:
        if not self.last or self.runs() != [(0, self.end)]:
            return None
        head = bytearray(self.header)
        payload = b"".join(self.parts[start] for start in sorted(self.parts))
        df = 0x4000 if self.largest_df and self.largest_df == self.largest else 0
        struct.pack_into(">H", head, 2, len(head) + len(payload))
        struct.pack_into(">H", head, 6, df)
        head[10:12] = b"\0\0"
        struct.pack_into(">H", head, 10, checksum(bytes(head)))
        return bytes(head) + payload
