"""PacketIn: one packet as Python hands it to an engine (replay, tests, the NetfilterQueue transport)."""

from __future__ import annotations

from dataclasses import dataclass

PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)      # enum Hook of _packet.pxd
IPV4, IPV6 = 2, 10                                              # enum Family
DROP, ACCEPT, HELD, QUEUE, REPEAT = range(5)                    # enum Verdict
CLASSES = {0: "ESTABLISHED", 1: "RELATED", 2: "NEW", 3: "ESTABLISHED", 4: "RELATED", 7: "UNTRACKED", 8: "INVALID"}


@dataclass(slots=True)
class PacketIn:
    """A packet at one crossing.  data starts at the IP header; ifin, ifout are interface indexes, 0 = none."""

    data: bytes
    hook: int
    ifin: int = 0
    ifout: int = 0
    family: int = 0                     # 0: by the version nibble of data
    total: int = 0                      # length in the kernel where data was cut; 0 = len(data)
    physin: int = 0
    physout: int = 0
    mark: int = 0
    priority: int = 0
    skbinfo: int = 4                    # enum SkbInfo; 4 = checksums not verified by a device
    hwaddr: bytes = b""
    uid: int | None = None
    gid: int | None = None
    id: int = 0

    def __post_init__(self) -> None:
        if not self.family:
            self.family = IPV6 if self.data[:1] and self.data[0] >> 4 == 6 else IPV4


@dataclass(slots=True, frozen=True)
class Decision:
    """What the engine said.  data is None unless a rule rewrote the packet; HELD: it waits for more fragments."""

    verdict: int
    reason: int                         # index into reasons.REASONS
    mark: int
    priority: int
    data: bytes | None
    ctinfo: int                         # key of CLASSES
    conn: int                           # number of its connection, 0 = none
    dirty: int

    @property
    def accepted(self) -> bool:
        return self.verdict == ACCEPT

    @property
    def ctstate(self) -> str:
        return CLASSES[self.ctinfo]
