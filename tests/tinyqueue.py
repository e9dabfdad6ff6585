"""The smallest NFQUEUE reader: binds one queue, says which hook each packet is at, gives verdicts.  For tests only."""

import struct

from nfqfw._netlink import NLM_F_ACK, NetlinkSocket, attribute, attributes, split

NETLINK_NETFILTER, SUBSYSTEM = 12, 3
PACKET, VERDICT, CONFIG = (SUBSYSTEM << 8 | kind for kind in range(3))
DROP, ACCEPT = 0, 1
HOP_BY_HOP = 0                  # next header of an IPv6 multicast listener report


class TinyQueue:
    """Bound in the namespace of the thread that makes it.  A context manager."""

    def __init__(self, number: int = 0):
        self.number = number
        self._socket = NetlinkSocket(NETLINK_NETFILTER)
        self._config(attribute(1, struct.pack(">BBH", 1, 0, 0)))        # bind
        self._config(attribute(2, struct.pack(">IB", 0xFFFF, 2)))       # copy packets

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def _config(self, content: bytes) -> None:
        self._socket.batch([(CONFIG, NLM_F_ACK, struct.pack(">BBH", 0, 0, self.number) + content)])

    def next(self, timeout: float = 2) -> tuple[int, int, bytes]:
        """(id, hook number, layer-3 bytes) of the next packet; multicast listener reports are accepted and skipped.

        Raises TimeoutError.
        """
        self._socket.socket.settimeout(timeout)
        while True:
            for kind, _, _, body in split(self._socket.socket.recv(1 << 17)):
                if kind == PACKET:
                    values = dict(attributes(body, 4))
                    number, _, hook = struct.unpack_from(">IHB", values[1])
                    data = values.get(10, b"")
                    if data[0] >> 4 != 6 or data[6] != HOP_BY_HOP:      # the kernel sends reports when it likes
                        return number, hook, data
                    self.verdict(number)

    def verdict(self, number: int, verdict: int = ACCEPT) -> None:
        self._socket.send([(VERDICT, 0, struct.pack(">BBH", 0, 0, self.number) + attribute(2, struct.pack(">II", verdict, number)))])

    def accept(self, count: int, timeout: float = 2) -> list[int]:
        """Accept the next `count` packets; their hooks."""
        hooks = []
        for _ in range(count):
            number, hook, _ = self.next(timeout)
            self.verdict(number)
            hooks.append(hook)
        return hooks
