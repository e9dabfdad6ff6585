"""nf_tables messages that `attach.py` sends: a table, its base chains, rules that queue.  Facts: <linux/netfilter/nf_tables.h>.

Unlike most of netlink, integers inside nf_tables attributes are big-endian; the info of an xtables target is native.
A change is a batch: begin, messages, end.  The kernel applies all of it or nothing.
"""

import struct
from dataclasses import dataclass

from nfqfw._netlink import (
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NetlinkError, NetlinkSocket, attribute, attributes, nested, reading, string, text,
)

NETLINK_NETFILTER = 12
NFPROTO_INET = 1
SUBSYSTEM = 10                  # NFNL_SUBSYS_NFTABLES
BATCH_BEGIN, BATCH_END = 0x10, 0x11
NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, _, NEWRULE, GETRULE, DELRULE = range(9)
GETGEN = 16
CHANGES_GROUP = 7               # NFNLGRP_NFTABLES: every change of a ruleset

Message = tuple[int, int, bytes]


def message(kind: int, flags: int, *parts: bytes, family: int = NFPROTO_INET) -> Message:
    return SUBSYSTEM << 8 | kind, flags, struct.pack(">BBH", family, 0, 0) + b"".join(parts)


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def _mark(kind: int) -> Message:
    return kind, 0, struct.pack(">BBH", 0, 0, SUBSYSTEM)


def commit(socket: NetlinkSocket, messages: list[Message]) -> None:
    """Apply all of the messages or none.  NetlinkError.index counts from the first of them."""
    acknowledged = [(kind, flags | NLM_F_ACK, body) for kind, flags, body in messages]
    try:
        socket.batch([_mark(BATCH_BEGIN), *acknowledged, _mark(BATCH_END)])
    except NetlinkError as error:
        error.index = max(error.index - 1, 0)
        raise


# ---- what to send -----------------------------------------------------------------------------------------------------

def new_table(table: str) -> Message:
    """Create, or leave as it is."""
    return message(NEWTABLE, NLM_F_CREATE, text(1, table), u32(2, 0))


def delete_table(table: str) -> Message:
    """With everything in it.  ENOENT if there is none."""
    return message(DELTABLE, 0, text(1, table))


def new_base_chain(table: str, name: str, hook: int, priority: int) -> Message:
    """Policy accept.  An existing chain of this name must have the same hook and priority (else EEXIST or EOPNOTSUPP)."""
    return message(NEWCHAIN, NLM_F_CREATE, text(1, table), text(3, name), nested(4, u32(1, hook), u32(2, priority)),
                   u32(5, 1), text(7, "filter"))


def new_rule(table: str, chain: str, expression: bytes, comment: str = "") -> Message:
    return message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, text(1, table), text(2, chain), nested(4, expression),
                   *([attribute(7, _userdata(comment))] if comment else []))


def flush_chain(table: str, chain: str) -> Message:
    """Delete every rule of a chain that exists."""
    return message(DELRULE, 0, text(1, table), text(2, chain))


def xt_nfqueue(queue: int, queues: int) -> bytes:
    """The xtables target NFQUEUE, revision 3, run by nft_compat: queues queue … queue + queues - 1, no bypass."""
    return _expression("target", text(1, "NFQUEUE"), u32(2, 3), attribute(3, struct.pack("=HHHH", queue, queues, 0, 0)))


def nft_queue(queue: int, queues: int) -> bytes:
    """nf_tables' own `queue` expression, for kernels without nft_compat.  Same meaning, no bypass."""
    return _expression("queue", *(attribute(kind, struct.pack(">H", value)) for kind, value in ((1, queue), (2, queues))))


def _expression(name: str, *data: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *data))


def _userdata(comment: str) -> bytes:
    """The comment as nft prints it: type 0, length, NUL-terminated text."""
    value = comment.encode() + b"\0"
    return bytes((0, len(value))) + value


# ---- what to read -----------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class BaseChain:
    family: int                 # NFPROTO_*
    table: str
    name: str
    hook: int
    priority: int


@dataclass(frozen=True)
class QueueRule:
    chain: str
    queue: int | None           # None: not a rule that queues
    queues: int = 0


def base_chains(socket: NetlinkSocket) -> list[BaseChain]:
    """Every base chain of every table in the namespace.  Raises NetlinkError, as all below."""
    answers, found = socket.dump(*_dump(GETCHAIN, family=0)), []
    with reading():
        for _, body in answers:
            values = dict(attributes(body, 4))
            if 4 in values:
                hook = dict(attributes(values[4]))
                number, priority = (struct.unpack(">i", hook[kind])[0] for kind in (1, 2))
                found.append(BaseChain(body[0], string(values[1]), string(values[3]), number, priority))
    return found


def has_table(socket: NetlinkSocket, table: str) -> bool:
    return any(string(dict(attributes(body, 4)).get(1, b"")) == table for _, body in socket.dump(*_dump(GETTABLE)))


def rules(socket: NetlinkSocket, table: str) -> list[QueueRule]:
    """The rules of one table of family inet, in order."""
    answers, found = socket.dump(*_dump(GETRULE, text(1, table))), []
    with reading():
        for _, body in answers:
            values = dict(attributes(body, 4))
            if string(values.get(1, b"")) == table:
                found.append(QueueRule(string(values[2]), *_queue_of(values.get(4, b""))))
    return found


def _dump(kind: int, *parts: bytes, family: int = NFPROTO_INET) -> tuple[int, bytes]:
    number, _, body = message(kind, 0, *parts, family=family)
    return number, body


def _queue_of(expressions: bytes) -> tuple[int | None, int]:
    for _, element in attributes(expressions):
        values = dict(attributes(element))
        name, data = string(values.get(1, b"")), dict(attributes(values.get(2, b"")))
        if name == "target" and string(data.get(1, b"")) == "NFQUEUE":
            return struct.unpack_from("=HH", data[3])
        if name == "queue" and 1 in data:
            return struct.unpack(">H", data[1])[0], struct.unpack(">H", data[2])[0] if 2 in data else 1
    return None, 0
