"""Fuzz targets that are Python: whatever of ours reads bytes from a socket or a file.

Invariant of all: `one` returns.  What is malformed is skipped or raises the reader's own error, which `one` catches; any
other exception is a finding.  What each target holds beyond that stands in its docstring.  Who feeds them: `seeded` (no
feedback, in the tests) and `coverage` (atheris, `make fuzz`).
"""

from __future__ import annotations

import io
import itertools
import os
import shlex
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

from nfqfw import _hostjson, _netlink, _nfnetlink, _rtnetlink, limits
from nfqfw.conntrack import command as conntrack
from nfqfw.conntrack import nfct
from nfqfw.conntrack._policies import TimeoutPolicies
from nfqfw.conntrack.timeouts import PolicyList
from nfqfw.daemon import wire
from nfqfw.errors import NfqfwError, RuleErrors
from nfqfw.host import Host
from nfqfw.queue.capture import Capture, CaptureError
from nfqfw.rules import applet, check, lint, load, save, specs
from nfqfw.rules.listings import Style, listing
from nfqfw.rules.store import MemoryStore

PUMPED_BYTES = 1 << 17          # a ruleset blown up for the test of linear time …
PUMPED_SECONDS = 20.0           # … and the CPU time it may take: 1 s on an idle machine; by the square of its length it would be hours
PUMP_EVERY = 500


# ---- rule text --------------------------------------------------------------------------------------------------------

def family_of(data: bytes) -> int:
    return 10 if data[:1] and data[0] & 1 else 2


def rules(data: bytes) -> None:
    """A Ruleset or RuleErrors, nothing else, in linear time; what was taken is saved and read back to the same; it can be
    listed and looked at; if this build evaluates it, the engine judges packets by it and stays within them (ASan)."""
    family, text = family_of(data), data[1:].decode("utf-8", "surrogateescape")
    ruleset = loaded(text, family)
    if ruleset is not None:
        stays_the_same(ruleset, family)
        judges(ruleset, family)
    if data and next(_runs) % PUMP_EVERY == 0:
        takes_linear_time(text, family)


def loaded(text: str, family: int):
    """The Ruleset, or None after errors that name a line of the text."""
    try:
        ruleset = load(text, "fuzz", family)
        check(ruleset)
        return ruleset
    except RuleErrors as errors:
        assert errors.errors and str(errors)
        lines = text.count("\n") + 2
        assert all(error.span is None or 0 <= error.span.line <= lines for error in errors), errors
    return None


def stays_the_same(ruleset, family: int) -> None:
    text = save(ruleset, counters=True, when=0.0)
    assert save(load(text, "saved", family), counters=True, when=0.0) == text
    lint.warnings(ruleset)
    for table in ruleset.tables.values():
        specs(table, verbose=True)
        listing(table, Style(family, True, True, False, True))


def judges(ruleset, family: int) -> None:
    """The compiled rules over a few packets: every hook, every verdict named."""
    from nfqfw._engine import Engine, LoadedProgram
    from nfqfw.compile import compile_rulesets
    from nfqfw.packets import PacketIn
    from nfqfw.reasons import REASONS

    try:
        program = compile_rulesets([ruleset])
    except NfqfwError:
        return                                              # not evaluated in this build: refused, with the reason
    table = connections()
    table.flush()
    engine = Engine(table, engine_host(), ring_bytes=1 << 14)
    try:
        engine.load(LoadedProgram(program))
    except NfqfwError:               # a CT rule names a time-out policy that is not there
        return
    for now, (packet, hook) in enumerate(itertools.product(packets(family), range(5))):
        decision = engine.one(PacketIn(packet, hook, ifin=0 if hook == 3 else 2, ifout=0 if hook < 2 else 3, family=family), now * 10**8, now * 10**8)
        assert decision.verdict in range(5) and REASONS[decision.reason] != "internal"
        engine.take_replies()


_cache: dict[object, object] = {}
_runs = itertools.count(1)


def engine_host() -> bytes:
    from tests.fuzz.setting import host_block
    if "host" not in _cache:
        _cache["host"] = host_block()
    return _cache["host"]


def packets(family: int) -> list[bytes]:
    """One of each kind, whole, and cut behind its IP header."""
    from tests.fuzz.setting import templates
    if family not in _cache:
        whole = [packet for packet in templates() if (packet[0] >> 4 == 6) == (family == 10)]
        _cache[family] = [*whole[:4], *whole[7:14:2], whole[0][:40], whole[1][:48], b"", whole[2][:19]]
    return _cache[family]


def takes_linear_time(text: str, family: int) -> None:
    """The text repeated as a whole, and one line of it repeated within the line."""
    lines = [line for line in text.split("\n") if line] or [" "]
    line = lines[next(_runs) % len(lines)]
    for blown in (text, line, f"*filter\n{line}", f"*filter\n-A INPUT -m comment --comment {line}"):
        head, _, body = blown.rpartition("\n")
        repeated = head + "\n" + (body or "x") * (PUMPED_BYTES // len(body or "x"))
        before = time.process_time()
        loaded(repeated, family)
        assert time.process_time() - before < PUMPED_SECONDS, f"not linear: {body[:200]!r}"


def rules_seeds() -> list[bytes]:
    from tests.rules import gen
    out = []
    for v6, family in enumerate((4, 6)):
        head = bytes([v6])
        out += [head + f"*{v.table}\n[1:2] -A {v.chain} {v.wanted}\nCOMMIT\n".encode() for v in gen.accepted_vectors(family)]
        out.append(head + gen.ruleset(7, family, 20).encode())
    return out + [b"\0*filter\n:u - [0:0]\n-A INPUT -j u\n-A u -m comment --comment \"a \\\" b\" -g u\nCOMMIT\n*nat\nCOMMIT\n"]


def rules_words() -> list[bytes]:
    from nfqfw.rules.model import BUILTIN_CHAINS
    from tests.ext import vectors
    found = {word for v in vectors.every() for word in v.wanted.split()} | {f"*{name}" for name in BUILTIN_CHAINS}
    found |= {chain for chains in BUILTIN_CHAINS.values() for chain in chains} | {"COMMIT", "! ", "[0:0]", '"', "\\", "\t", "-A ", " -j "}
    return [word.encode() for word in sorted(found)]


# ---- commands ---------------------------------------------------------------------------------------------------------

def commands(data: bytes) -> None:
    """Lines of words: each runs as iptables, -save or -restore (the rest of the input is its standard input) on one store.

    Exit codes are those of the tools; a command that failed changed nothing; what is in the store can be saved and read back."""
    store = MemoryStore()
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    for at, line in enumerate(lines[:40]):
        words = line.split(" ")
        argv = words if words[0].startswith(("iptables", "ip6tables", "xtables")) else ["ip6tables" if at & 1 else "iptables", *words]
        before = dict(store.rulesets)
        result = applet.run(argv, store, "\n".join(lines[at + 1:]), open_file=no_file)
        assert result.code in (0, 1, 2, 3, 4), result
        assert result.code == 0 or store.rulesets == before, (argv, result)
    for family, ruleset in store.rulesets.items():
        text = save(ruleset, when=0.0)
        assert save(load(text, "saved", family), when=0.0) == text


def no_file(path: str, mode: str):
    raise FileNotFoundError(2, "No such file or directory", path)


def commands_seeds() -> list[bytes]:
    from tests.rules import gen
    from tests.rules.test_errors import ROWS
    out = ["\n".join(line.partition(" ")[2] for line in gen.script(seed, 20)) for seed in range(10)]
    out += [row[0] for row in ROWS]
    out += ["iptables-restore -c\n*filter\n[1:2] -A INPUT -j ACCEPT\nCOMMIT\n", "-A INPUT -j DROP\n\niptables-save -c\niptables -L -Z -v -n -x", "ip6tables-save -t raw -M x"]
    return [text.encode("utf-8", "surrogateescape") for text in out]


def conntrack_commands(data: bytes) -> None:
    """Lines of words: each a conntrack command on one table.  Exit codes 0, 1, 2; the table stays within its size."""
    table = connections()
    table.flush()
    for at, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n")[:40]):
        result = conntrack.run(line.split(" "), table, now_ns=10**12 + at, wall_ns=10**18, read=lambda path: line)
        assert result.code in (0, 1, 2), result
        assert result.follow or isinstance(result.stdout + result.stderr, str)
        assert table.count <= 32


def connections():
    """A small table; one for all inputs."""
    if "table" not in _cache:
        from nfqfw._conntrack import ConntrackTable
        _cache["table"] = ConntrackTable(32, 128)
    return _cache["table"]


def conntrack_seeds() -> list[bytes]:
    new = "-I -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2 --state SYN_SENT -t 100"
    return [text.encode() for text in (
        f"{new}\n-L\n-U -p tcp -s 10.0.0.1 -m 7\n-G -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2\n-D -m 7/255\n-C",
        "-I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2 -t 9 -u ASSURED,SEEN_REPLY\n-L -o xml\n-L -o extended,id,ktimestamp\n-S\n-F\n-R file",
        "-I -p icmp -s 1.1.1.1 -d 2.2.2.2 --icmp-type 8 --icmp-code 0 --icmp-id 3 -t 10\n-L -n\n-E -e NEW -p tcp\n-L -f ipv6 -w 3\n--explain 10.0.0.1\n--proc",
        "-I -p sctp -s fe80::1 -d fe80::2 --sport 1 --dport 2 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2 -t 3 -f ipv6\n-L -p sctp -f ipv6\n-L expect\n-h\n-V")]


# ---- nfct -------------------------------------------------------------------------------------------------------------

def nfct_commands(data: bytes) -> None:
    """Commands of nfct, a line each, say the same on a list of policies as on a flow table; what is there can be saved and made again."""
    policies = PolicyList(), TimeoutPolicies(connections())
    for policy in policies[1].list():
        policies[1].delete(policy.name)
    for line in data.decode("utf-8", "surrogateescape").replace("\0", "").split("\n")[:20]:
        try:
            argv = shlex.split(line)
        except ValueError:
            continue
        if "default-set" not in argv:                       # defaults outlive an input
            one, other = (nfct.run(argv, each) for each in policies)
            assert one == other and one.code in range(256), (argv, one, other)
    again = PolicyList()
    nfct.load("\n".join(map(nfct.save_line, policies[0].list())), "saved", again)
    assert again.list() == policies[0].list() == policies[1].list()


def nfct_seeds() -> list[bytes]:
    return [text.encode() for text in (
        "add timeout a inet tcp syn_sent 5 established 100\nlist timeout\nget timeout a\ndelete timeout a\nadd timeout b inet6 udp unreplied 3 replied 4\nflush timeout",
        "add timeout 'x y' inet generic timeout 7\nadd timeout sctp1 inet6 sctp closed 1 established 2\nlist timeout\nget timeout none\ndefault-get timeout inet tcp",
        "add timeout c inet icmp timeout 1\nadd timeout c inet icmp timeout 1\nadd timeout d inet6 icmpv6 timeout 99999999999\nadd timeout e inet dccp open 3\nhelp\nversion")]


# ---- netlink ----------------------------------------------------------------------------------------------------------

def netlink(data: bytes) -> None:
    """A datagram of the kernel's through everything that reads netlink; nothing is yielded that is not in it.

    NetlinkError says that the kernel refused, or that what it sent cannot be read."""
    assert sum(len(body) + 16 for _, _, _, body in _netlink.split(data)) <= len(data)
    assert sum(len(payload) + 4 for _, payload in _netlink.attributes(data)) <= len(data)
    bodies = [(kind, body) for kind, _, _, body in _netlink.split(data)]
    for index, address in _rtnetlink.losses(data):
        assert isinstance(index, int) and (address is None or len(address) in (4, 16))
    for read in (lambda: _rtnetlink.facts_of([b for _, b in bodies], [b for _, b in bodies], [b for _, b in bodies]),
                 lambda: _nfnetlink.base_chains(Answers(bodies)), lambda: _nfnetlink.has_table(Answers(bodies), "nfqfw"),
                 lambda: _nfnetlink.rules(Answers(bodies), "nfqfw"), lambda: replay(data).dump(_rtnetlink.GETLINK, b""),
                 lambda: replay(data).batch([(1, 0, b"")] * 3)):
        try:
            read()
        except (_netlink.NetlinkError, InterruptedError):
            pass


class Answers:
    """Stands for a socket whose dump gave these answers."""

    def __init__(self, found: list[tuple[int, bytes]]):
        self.found = found

    def dump(self, *_, **__) -> list[tuple[int, bytes]]:
        return self.found


class Silence(_netlink.NetlinkError):
    """The recorded answers are used up."""


def replay(data: bytes) -> _netlink.NetlinkSocket:
    """A NetlinkSocket whose kernel says this once."""
    out = _netlink.NetlinkSocket.__new__(_netlink.NetlinkSocket)
    out.socket, out._sequence = Recorded(data), 0
    return out


class Recorded:
    def __init__(self, data: bytes):
        self.data = [data]

    def sendall(self, data: bytes) -> None:
        pass

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self.data:
            return self.data.pop()[:size]
        if flags:
            raise BlockingIOError
        raise Silence(11)


def netlink_seeds() -> list[bytes]:
    def message(kind: int, body: bytes, flags: int = 0, sequence: int = 1) -> bytes:
        return _netlink.HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)

    attribute, nested, text, u32 = _netlink.attribute, _netlink.nested, _netlink.text, _nfnetlink.u32
    link = _rtnetlink.IFINFO.pack(0, 1, 7, 1, 1) + text(3, "eth0") + attribute(4, struct.pack("=I", 1500)) + attribute(10, bytes(4)) + attribute(27, bytes(4))
    address4 = _rtnetlink.IFADDR.pack(2, 24, 0, 0, 7) + attribute(1, bytes((10, 0, 0, 2))) + attribute(2, bytes((10, 0, 0, 1))) + attribute(4, bytes((10, 0, 0, 255))) + attribute(8, bytes(4))
    address6 = _rtnetlink.IFADDR.pack(10, 64, 0, 0, 7) + attribute(1, bytes(16))
    hop = _rtnetlink.NEXTHOP.pack(16, 0, 0, 7) + attribute(5, bytes((10, 0, 0, 9)))
    route4 = _rtnetlink.RTMSG.pack(2, 0, 0, 0, 254, 0, 0, 1, 0) + attribute(9, hop * 2) + attribute(8, attribute(2, struct.pack("=I", 1400)))
    route6 = _rtnetlink.RTMSG.pack(10, 64, 0, 0, 254, 0, 0, 1, 0) + attribute(1, bytes(16)) + attribute(4, struct.pack("=I", 7)) + attribute(5, bytes(16)) + attribute(6, bytes(4))
    head = struct.pack(">BBH", 1, 0, 0)
    chain = head + text(1, "nfqfw") + text(3, "c") + nested(4, u32(1, 0), u32(2, -450 & 0xFFFFFFFF))
    queued = head + text(1, "nfqfw") + text(2, "c") + nested(4, _nfnetlink.xt_nfqueue(3, 2), _nfnetlink.nft_queue(4, 1))
    error = struct.pack("=i", -22) + _netlink.HEADER.pack(20, 18, 0, 1, 0) + bytes(4)
    return [message(16, link) + message(17, link), message(20, address4) + message(21, address6) + message(21, address4), message(24, route4) + message(24, route6),
            message(0xA03, chain) + message(0xA06, queued), message(0xA00, head + text(1, "nfqfw")), message(2, error) + message(2, error[:4] + attribute(1, b"why\0"), 0x200, 3),
            message(2, error + text(1, "why"), 0x200, 2) + message(3, bytes(4), 0x10) + message(2, bytes(4) + error[4:], 0x100), message(16, link, 0x10) + message(3, bytes(4), 2)]


# ---- files ------------------------------------------------------------------------------------------------------------

def capture(data: bytes) -> None:
    """A capture file through the reader and the offline queue: packets that are in it, or CaptureError; every one comes to an end."""
    from nfqfw.queue.offline import OfflineQueue, Router, pump
    with memory_file(data) as path:
        try:
            with Capture(path) as file:
                found = list(file)
        except CaptureError as error:
            assert error.message
            found = []
    assert sum(len(packet.data) for packet in found) <= len(data)
    for packet in found:
        assert packet.total >= len(packet.data) > 0 and len(packet.hwaddr) <= 8
    found = [packet._replace(time=min(max(packet.time, 0), 1 << 60)) for packet in found if len(packet.data) <= 65536]
    queue = OfflineQueue(feed(), Router(capture_host()))
    pump(queue, found)
    last = max((packet.time for packet in found), default=0)
    queue.idle(last + 61 * 10**9)                           # fragments that are still held end with their time
    assert sum(queue.ends.values()) == len(found) + queue.replies, queue.ends


def feed():
    """A Feed over an engine that tracks, translates and rejects."""
    from nfqfw._engine import Engine, LoadedProgram
    from nfqfw.compile import compile_rulesets
    from nfqfw.queue._feed import Feed
    from tests.fuzz.setting import full_rules
    if "loaded" not in _cache:
        _cache["loaded"] = LoadedProgram(compile_rulesets([load(full_rules(v6), "fuzz", family) for v6, family in ((False, 2), (True, 10))]))
    table = connections()
    table.flush()
    engine = Engine(table, engine_host(), ring_bytes=1 << 14)
    engine.load(_cache["loaded"])
    return Feed(engine)


def capture_host() -> Host:
    if "router" not in _cache:
        _cache["router"] = Host.offline({"eth0": ["10.0.1.1/24", "2001:db8:1::1/64"], "eth1": ["10.0.2.1/24", "2001:db8:2::1/64"]})
    return _cache["router"]


class memory_file:
    """A file of these bytes that is in no directory."""

    def __init__(self, data: bytes):
        self.fd = os.memfd_create("fuzz")
        os.write(self.fd, data)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self.fd}"

    def __exit__(self, *_) -> None:
        os.close(self.fd)


def capture_seeds() -> list[bytes]:
    from tests.fuzz.setting import templates
    udp4, udp6 = templates()[7], templates()[-11]
    frame = bytes(12) + b"\x08\x00" + udp4
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    section = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    interface = block(1, struct.pack("<HHI", 101, 0, 100) + struct.pack("<HH4s", 2, 4, b"eth0") + struct.pack("<HHB3x", 9, 1, 9) + struct.pack("<HHq", 14, 8, 3) + bytes(4))
    out = [section + interface + block(6, struct.pack("<IIIII", 0, 1, 2, len(udp4), len(udp4)) + udp4)
           + block(3, struct.pack("<I", len(udp6)) + udp6) + block(2, struct.pack("<HHIIII", 0, 0, 1, 2, len(udp6), 99) + udp6)]
    for order, magic in (("<", 0xA1B2C3D4), (">", 0xA1B2C3D4), ("<", 0xA1B23C4D)):
        for link, data in ((1, frame), (101, udp6), (113, bytes(14) + b"\x86\xdd" + udp6), (276, b"\x08\0" + bytes(18) + udp4), (0, bytes(4) + udp4)):
            out.append(struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link) + struct.pack(order + "IIII", 1, 2, len(data), len(data)) + data)
    return out + [out[-1] + struct.pack("<IIII", 1, 3, 20, 4000) + udp4[:20]]


def host(data: bytes) -> None:
    """A snapshot file: a Host with a block and the same facts when saved and read again, or NfqfwError."""
    with memory_file(data) as path:
        try:
            found = Host.snapshot(path)
        except NfqfwError as error:
            assert error.message and error.fix
            return
    assert found.block
    with memory_file(b"") as path:
        found.save(path)
        assert Host.snapshot(path).facts == found.facts


def host_seeds() -> list[bytes]:
    with memory_file(b"") as path:
        capture_host().save(path)
        with open(path, "rb") as file:
            whole = file.read()
    small = b'{"addr":[{"ifindex":1,"ifname":"lo","flags":["UP","LOOPBACK"],"mtu":65536,"addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host"}]}]'
    return [whole, small + b"}", small + b',"route":[{"dst":"default","gateway":"127.0.0.2","dev":"lo","metric":5,"nexthops":[{"dev":"lo"}]}],"sysctls":{"net.ipv4.icmp_ratelimit":9}}']


# ---- the control socket -----------------------------------------------------------------------------------------------

def control(data: bytes) -> None:
    """The daemon's end of the control socket: messages, or WireError, EOFError; never more read or kept than the limits; what is
    no request is answered and counted, and no handler of ours sees it."""
    stream = Stream(data)
    try:
        while True:
            head, body = wire.receive(stream, body_limit=4096)
            assert isinstance(head, dict) and len(body) <= 4096
    except (wire.WireError, EOFError):
        pass
    assert stream.asked <= limits.CONTROL_HEAD_BYTES + 4096
    from nfqfw.daemon.server import Server, Session
    seen: list[dict] = []
    server = Server("/nonexistent", {"look": lambda session, head: seen.append(head) or 0}, log=fail)
    stream = Stream(data)
    server.request(Session(stream, 1, 0))
    assert len(seen) + server.rejected <= 1
    answer = stream.written
    assert not answer or answer.startswith(wire.MAGIC) and b"internal error" not in answer


def fail(text: str) -> None:
    raise AssertionError(text)


class Stream:
    """A connected socket as far as wire uses one; gives the bytes in pieces of 1, 2, 3 … bytes."""

    def __init__(self, data: bytes):
        self.data, self.piece, self.asked, self.written = io.BytesIO(data), 0, 0, b""

    def recv(self, size: int) -> bytes:
        self.piece += 1
        self.asked = max(self.asked, size)
        return self.data.read(min(size, self.piece))

    def sendall(self, data: bytes) -> None:
        self.written += data

    def gettimeout(self) -> float | None:
        return None

    def settimeout(self, seconds: float | None) -> None:
        pass


def control_seeds() -> list[bytes]:
    def message(head: bytes, body: bytes = b"") -> bytes:
        return wire.MAGIC + len(head).to_bytes(4, "little") + len(body).to_bytes(4, "little") + head + body

    return [message(b'{"op":"look"}'), message(b'{"op":"applet","name":"iptables","argv":["-L"]}') + message(b"{}", b"body"), message(b"[]"), message(b"{"),
            wire.MAGIC + b"\xff" * 8, message(b'{"op":["look"],"x":' + b"[" * 90 + b"]" * 90 + b"}")]


# ---- the list ---------------------------------------------------------------------------------------------------------

class Target(NamedTuple):
    one: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    longest: int                                            # bytes of an input
    words: Callable[[], list[bytes]] = lambda: []


TARGETS = {
    "rules": Target(rules, rules_seeds, 2000, rules_words),
    "commands": Target(commands, commands_seeds, 1500, rules_words),
    "conntrack": Target(conntrack_commands, conntrack_seeds, 800, lambda: [word for text in conntrack_seeds() for word in text.split()]),
    "nfct": Target(nfct_commands, nfct_seeds, 600, lambda: [word for text in nfct_seeds() for word in text.split()]),
    "netlink": Target(netlink, netlink_seeds, 600),
    "capture": Target(capture, capture_seeds, 600),
    "host": Target(host, host_seeds, 3000, lambda: [b'"addr"', b'"ifname"', b'"nexthops"', b"null", b"1e999", b"-1", b"[]", b"{}", b'"inet6"']),
    "control": Target(control, control_seeds, 400, lambda: [wire.MAGIC, b'{"op":"look"}', b"\0\0\0\0"]),
}
