"""The Python doors of the compiled modules: whatever they are given, they answer or raise, and never crash, hang or keep a lock.

Each call runs in a process of its own: what a crash would leave of this one is nothing.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import struct
from types import SimpleNamespace

import pytest

from nfqfw import _nat
from nfqfw._arena import Arena, ArenaError
from nfqfw._classify import build_index
from nfqfw._conntrack import ConntrackTable
from nfqfw._engine import Engine, LoadedProgram, Shared
from nfqfw._layout import Layout
from nfqfw._registry import NamedHandle, NamedTables
from nfqfw.compile import compile_rulesets
from nfqfw.conntrack import _drill
from nfqfw.conntrack.entry import Entry, Side
from nfqfw.conntrack.expectation import Expectation
from nfqfw.host import Host
from nfqfw.indexing import Boxes, Fields
from nfqfw.packets import FORWARD, PacketIn
from nfqfw.queue._accept_all import AcceptAll
from nfqfw.queue._callback import Callback, View
from nfqfw.queue._feed import Feed
from nfqfw.queue._nfnetlink import Queue
from nfqfw.queue._rewrite_all import RewriteAll
from nfqfw.rules import load
from nfqfw.rules._print import rule_lines, rule_text
from nfqfw.rules._rule import Rule, common_ends, find_same, not_plain
from nfqfw.rules._scan import Scanner

SECONDS = 5                             # a call that takes longer holds a lock, or never ends
CLEAR = (ValueError, TypeError, OverflowError, LookupError, OSError, MemoryError, ArenaError)
TEXT = """*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n-A FORWARD -m conntrack --ctstate NEW -j ACCEPT
-A FORWARD -m limit --limit 1/s -j LOG\nCOMMIT\n"""
HOST = Host.offline({"lo": ["127.0.0.1/8"], "eth0": ["10.0.1.1/24", "2001:db8:1::1/64"]}).block
UDP = bytes.fromhex("4500001c00010000401163cd0a0001020a000202000500350008" "0000")        # 10.0.1.2:5 > 10.0.2.2:53, no checksum
NOW = 10**12
DF = 0x4000


def outcome(call) -> str:
    """What `call` ends in: "done", the name of a clear error and its text, or what else ended its process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)       # pytest's time-out has a handler of its own
        signal.alarm(SECONDS)
        try:
            call()
            said = "done"
        except CLEAR as error:
            said = f"{type(error).__name__}: {error}"
        except BaseException as error:
            said = f"unclear {type(error).__name__}: {error}"
        os.write(writer, said.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return said or f"ended by {signal.Signals(os.WTERMSIG(status)).name}"


def engine(**options) -> Engine:
    return Engine(ConntrackTable(64, 256), options.pop("host", None), **options)


def program():
    return compile_rulesets([load(TEXT, "doors", 2)])


def loaded_engine(**options) -> Engine:
    made = engine(**options)
    made.load(LoadedProgram(program()))
    return made


def judge(packet: PacketIn, **options) -> None:
    """At an engine that tracks; twice, so that the second finds what the first left."""
    made = loaded_engine(**options)
    made.one(packet, NOW, NOW)
    made.one(packet, NOW, NOW)


def host_with(place: int, value: int, size: int = 4) -> bytes:
    """A Host block with one word of its header overwritten."""
    return HOST[:place] + value.to_bytes(size, "little") + HOST[place + size:]


def table(entries: int = 0) -> ConntrackTable:
    made = ConntrackTable(64, 256)
    for port in range(entries):
        made.process(UDP[:20] + struct.pack(">HHHH", 1000 + port, 53, 8, 0), NOW)
    return made


def entry(**changed) -> Entry:
    side = Side("10.0.0.1", "10.0.0.2", 1, 2)
    back = Side("10.0.0.2", "10.0.0.1", 2, 1)
    return Entry(**({"number": 0, "id": 0, "family": 2, "proto": 17, "status": 0, "timeout": 10, "state": 0, "mark": 0, "original": side,
                     "reply": back} | changed))


def and_then(call, *others) -> None:
    """A call that may raise, and then what would hang or crash if it had left a lock or a half-made thing."""
    try:
        call()
    except CLEAR as error:
        first = error
    else:
        first = None
    for other in others:
        other()
    if first is not None:
        raise first


def spoilt_arena(place: int, value: int, size: int) -> None:
    """Attach to an Arena with one word of its header overwritten by whoever else holds it."""
    flows = table(3)
    os.pwrite(flows.arena.fd, value.to_bytes(size, "little"), place)
    list_all(ConntrackTable.attach(flows.arena.fd))


def list_all(flows: ConntrackTable) -> None:
    flows.list(True, NOW)
    flows.expectations(NOW)
    flows.flush()


def closed_fd() -> int:
    fd = os.memfd_create("closed")
    os.close(fd)
    return fd


def truncated_arena() -> None:
    """Whoever made the Arena shrinks it after another process has mapped it: refused by the kernel, or by us beforehand."""
    flows = table(3)
    other = ConntrackTable.attach(flows.arena.fd)
    and_then(lambda: os.ftruncate(flows.arena.fd, mmap.PAGESIZE), lambda: list_all(other), lambda: list_all(flows))


def unsealed_arena() -> None:
    """The same bytes in a file that can be shrunk."""
    flows = table(3)
    size = os.fstat(flows.arena.fd).st_size
    fd = os.memfd_create("unsealed")
    os.ftruncate(fd, size)
    os.pwrite(fd, os.pread(flows.arena.fd, 1 << 21, 0), 0)
    other = ConntrackTable.attach(fd)
    os.ftruncate(fd, 0)
    list_all(other)


def read_only_file() -> None:
    fd = os.open("/proc/self/exe", os.O_RDONLY)
    Arena.attach(fd)


def kept_view(use) -> None:
    """A View that is used after its call."""
    kept = []
    feed = Feed(Callback(lambda view: kept.append(view) or 1))
    feed.add(UDP, FORWARD, id=1)
    feed.run(NOW, NOW)
    del feed
    use(kept[0])


def stale_sender() -> None:
    """A queue is gone, its engine judges on."""
    made = loaded_engine()
    queue = Queue(9)
    queue.use(made)
    del queue
    feed = Feed(made)
    for number in range(3):
        feed.add(UDP, FORWARD, id=number, ifin=2, ifout=2)
    feed.run(NOW, NOW)


def whole_queue(engine) -> Queue:
    queue = Queue(9)
    queue.use(engine)
    return queue


def rule(**parts) -> Rule:
    return Rule(**parts)


def lay_out(made: Rule, family: int = 2) -> None:
    boxes = Boxes(family)
    Layout().add_rules([made], "filter", {}, boxes, lambda named, row: 0)
    boxes.build(0)


def scan(data: bytes, at: int, most: int = 10) -> None:
    class Chains(dict):
        pass

    class Editor:
        def own(self, name):
            return SimpleNamespace(rules=[])

    Scanner(2, "filter", {"INPUT": 0}, None).run(data, at, 1, most, Editor(), False, "f")


def test_outcome_tells_a_crash_and_a_clear_error():
    assert outcome(lambda: os.kill(os.getpid(), signal.SIGSEGV)) in ("ended by SIGSEGV", "ended by SIGABRT")       # ... of a sanitizer
    assert outcome(lambda: int("x")).startswith("ValueError: ")
    assert outcome(lambda: {}.nothing).startswith("unclear AttributeError")
    assert outcome(lambda: None) == "done"


# what is called -> (the call, what it must end in: an error's name, "done", or both as a tuple)
ENGINE = {
    "host empty": (lambda: engine(host=b""), "ValueError"),
    "host short": (lambda: engine(host=HOST[:40]), "ValueError"),
    "host cut": (lambda: engine(host=HOST[:-1]), "ValueError"),
    "host longer than it says": (lambda: engine(host=HOST + b"\0"), "ValueError"),
    "host of other magic": (lambda: engine(host=host_with(0, 1)), "ValueError"),
    "host, interfaces beyond": (lambda: engine(host=host_with(20, len(HOST) - 4)), "ValueError"),
    "host, a billion interfaces": (lambda: engine(host=host_with(16, 10**9)), "ValueError"),
    "host, most addresses": (lambda: engine(host=host_with(24, 0xFFFFFFFF)), "ValueError"),
    "host, addresses at an odd place": (lambda: engine(host=host_with(28, 65)), "ValueError"),
    "host, routes over the header": (lambda: engine(host=host_with(36, 0)), "ValueError"),
    "host of zeros": (lambda: engine(host=bytes(64)), "ValueError"),
    "host a number": (lambda: engine(host=64), "TypeError"),
    "host text": (lambda: engine(host="eth0"), "TypeError"),
    "set_host empty": (lambda: engine().set_host(b""), "ValueError"),
    "set_host None": (lambda: engine().set_host(None), "TypeError"),
    "host, a bytearray that is changed afterwards": (lambda: changed_host(), "done"),
    "no table": (lambda: Engine(None), "TypeError"),
    "something else for a table": (lambda: Engine(object()), "TypeError"),
    "ring of nothing": (lambda: engine(ring_bytes=0), "done"),
    "ring of everything": (lambda: engine(ring_bytes=(1 << 64) - 1), ("MemoryError", "ValueError")),
    "thread -1, shared": (lambda: engine(thread=-1, shared=Shared(2)), "ValueError"),
    "thread 2 of 2": (lambda: engine(thread=2, shared=Shared(2)), "ValueError"),
    "thread -1, alone": (lambda: engine(thread=-1).load(LoadedProgram(program())), "ValueError"),
    "thread 5, alone": (lambda: engine(thread=5).load(LoadedProgram(program(), 2)), "ValueError"),
    "shared by 0": (lambda: Shared(0), "ValueError"),
    "shared by 65": (lambda: Shared(65), "ValueError"),
    "load None": (lambda: engine().load(None), "TypeError"),
    "judge without a program": (lambda: engine().one(PacketIn(UDP, FORWARD), NOW, NOW), ("done", "ValueError")),
    "idle without a program": (lambda: engine().idle(NOW), "done"),
    "program None": (lambda: LoadedProgram(None), "AttributeError"),
    "program without a block": (lambda: spoilt_program(block=bytearray()), "ValueError"),
    "program, a block that is cut": (lambda: spoilt_program(cut=True), "ValueError"),
    "program, other magic": (lambda: spoilt_program(block=bytearray(400)), "ValueError"),
    "program, another state": (lambda: spoilt_program(state_image=b""), "ValueError"),
    "program for 0 threads": (lambda: LoadedProgram(program(), 0).counters_list(), "ValueError"),
    "program for -1 threads": (lambda: LoadedProgram(program(), -1), "ValueError"),
    "program for 2 billion threads": (lambda: LoadedProgram(program(), 2**31 - 1), "ValueError"),
    "inherit None": (lambda: LoadedProgram(program()).inherit(None, []), "TypeError"),
    "inherit beyond": (lambda: LoadedProgram(program()).inherit(LoadedProgram(program()), [(0, 0, 1 << 20)]), "ValueError"),
    "inherit, sums that overflow": (lambda: LoadedProgram(program()).inherit(LoadedProgram(program()), [(2**63 - 1, 0, 2)]), "ValueError"),
    "inherit, negative": (lambda: LoadedProgram(program()).inherit(LoadedProgram(program()), [(-8, 0, 8)]), "ValueError"),
    "inherit tables that are not there": (lambda: LoadedProgram(program()).inherit_tables(LoadedProgram(program()), [(3, 0)]), "IndexError"),
    "inherit tables, negative": (lambda: inherit_tables(-1), "IndexError"),
    "drive in batches of 0": (lambda: loaded_engine().drive([PacketIn(UDP, FORWARD)], 1, 0), "ValueError"),
    "drive in batches of 1,000": (lambda: loaded_engine().drive([PacketIn(UDP, FORWARD)] * 1000, 1, 1000), ("ValueError", "done")),
    "drive no packets": (lambda: loaded_engine().drive([], 5), "done"),
    "drive what are no packets": (lambda: loaded_engine().drive([PacketIn(UDP, FORWARD), 7]), "AttributeError"),
    "take records, 0": (lambda: loaded_engine().take_records(0), "done"),
    "take what many batches released": (lambda: held_and_released(), "done"),
    "hook 5": (lambda: judge(PacketIn(UDP, 5)), "ValueError"),
    "hook 255": (lambda: judge(PacketIn(UDP, 255)), "ValueError"),
    "hook -1": (lambda: judge(PacketIn(UDP, -1)), "OverflowError"),
    "family 7": (lambda: judge(PacketIn(UDP, FORWARD, family=7)), "ValueError"),
    "data None": (lambda: judge(PacketIn(None, FORWARD, family=2)), "TypeError"),
    "data empty": (lambda: judge(PacketIn(b"", FORWARD)), "done"),
    "data of 300,000 bytes": (lambda: judge(PacketIn(UDP + bytes(300_000), FORWARD)), ("ValueError", "done")),
    "total below data": (lambda: judge(PacketIn(UDP, FORWARD, total=3)), ("ValueError", "done")),
    "total of 4 GiB": (lambda: judge(PacketIn(UDP, FORWARD, total=0xFFFFFFFF)), "done"),
    "mark -1": (lambda: judge(PacketIn(UDP, FORWARD, mark=-1)), "OverflowError"),
    "link-layer address of 100 bytes": (lambda: judge(PacketIn(UDP, FORWARD, hwaddr=bytes(100))), "done"),
    "interfaces that are not there": (lambda: judge(PacketIn(UDP, FORWARD, 0xFFFFFFFF, 0xFFFFFFFE), host=HOST), "done"),
}
TABLE = {
    "no room": (lambda: ConntrackTable(64, 0), "ValueError"),
    "room for one": (lambda: ConntrackTable(64, 1), "ValueError"),
    "negative room": (lambda: ConntrackTable(64, -5), "ValueError"),
    "room of 2^40": (lambda: ConntrackTable(64, 1 << 40), "ValueError"),
    "negative limit": (lambda: ConntrackTable(-1, 256), ("ValueError", "OverflowError")),
    "limit of 2^31": (lambda: ConntrackTable(1 << 31, 256), "ValueError"),
    "limit above the room": (lambda: fill(ConntrackTable(1000, 8)), "done"),
    "index for -1": (lambda: ConntrackTable(64, 256, index_for=-1), ("ValueError", "OverflowError")),
    "made without being initialised": (lambda: list_all(ConntrackTable.__new__(ConntrackTable)), ("done", "TypeError")),
    "initialised twice": (lambda: twice_initialised(), ("done", "TypeError")),
    "something else for an Arena": (lambda: ConntrackTable(64, 256, arena=object()), "TypeError"),
    "an Arena of nothing": (lambda: ConntrackTable(64, 256, arena=Arena()), ("ValueError", "TypeError", "ArenaError")),
    "slots of an Arena of nothing": (lambda: Arena().slots, ("done", "TypeError", "ArenaError")),
    "tend an Arena of nothing": (lambda: Arena().tend(), ("done", "TypeError", "ArenaError")),
    "an Arena for 0": (lambda: Arena.create(0), "ValueError"),
    "an Arena for -1": (lambda: Arena.create(-1), "ValueError"),
    "attach -1": (lambda: ConntrackTable.attach(-1), "OSError"),
    "attach a closed descriptor": (lambda: ConntrackTable.attach(closed_fd()), "OSError"),
    "attach a pipe": (lambda: ConntrackTable.attach(os.pipe()[0]), "ArenaError"),
    "attach a folder": (lambda: ConntrackTable.attach(os.open("/", os.O_RDONLY)), "ArenaError"),
    "attach a file that cannot be written": (read_only_file, "ArenaError"),
    "attach no number": (lambda: ConntrackTable.attach("fd"), "TypeError"),
    "attach what was shrunk afterwards": (truncated_arena, "PermissionError"),
    "attach what can be shrunk": (unsealed_arena, "ArenaError"),
    "get an unknown setting": (lambda: table().get("nf_conntrack_nothing"), "ValueError"),
    "get None": (lambda: table().get(None), "ValueError"),
    "set text": (lambda: table().set("nf_conntrack_udp_timeout", "9"), "TypeError"),
    "set -1": (lambda: table().set("nf_conntrack_udp_timeout", -1), "ValueError"),
    "set 2^70": (lambda: table().set("nf_conntrack_udp_timeout", 1 << 70), "ValueError"),
    "set a fraction": (lambda: table().set("nf_conntrack_udp_timeout", 1.5), ("TypeError", "ValueError", "done")),
    "delete -1": (lambda: and_then(lambda: table(3).delete(-1)), ("OverflowError", "done")),
    "delete 2^32 - 1": (lambda: table(3).delete(0xFFFFFFFF), "done"),
    "delete with a negative id": (lambda: kept_lock(lambda t: t.delete(1, -1)), "OverflowError"),
    "delete with an id of 2^40": (lambda: kept_lock(lambda t: t.delete(1, 1 << 40)), "OverflowError"),
    "change what is not there": (lambda: table(3).change(0xFFFFFFFF, 1), "done"),
    "change, negative id": (lambda: kept_lock(lambda t: t.change(1, -1)), "OverflowError"),
    "change, negative mark": (lambda: kept_lock(lambda t: t.change(1, id_of(t), mark=-1)), "OverflowError"),
    "change, a mask of text": (lambda: kept_lock(lambda t: t.change(1, id_of(t), mark=1, mask="x")), "TypeError"),
    "change, negative time-out": (lambda: kept_lock(lambda t: t.change(1, id_of(t), timeout=-1)), "OverflowError"),
    "change, negative status": (lambda: kept_lock(lambda t: t.change(1, id_of(t), status=-1)), "OverflowError"),
    "change, state 255 of UDP": (lambda: kept_lock(lambda t: t.change(1, id_of(t), state=255)), "done"),
    "change, state 10 of TCP": (lambda: changed_state(6, 10), "ValueError"),
    "change, state 9 of SCTP": (lambda: changed_state(132, 9), "ValueError"),
    "change, state 300": (lambda: kept_lock(lambda t: t.change(1, id_of(t), state=300)), ("OverflowError", "ValueError")),
    "change, labels of 200 bits": (lambda: kept_lock(lambda t: t.change(1, id_of(t), labels_add=1 << 200)), "OverflowError"),
    "change, labels of text": (lambda: kept_lock(lambda t: t.change(1, id_of(t), labels_add="x")), "TypeError"),
    "insert None": (lambda: table().insert(None), "AttributeError"),
    "insert, negative time-out": (lambda: half_made(timeout=-1), "OverflowError"),
    "insert, negative mark": (lambda: half_made(mark=-1), "OverflowError"),
    "insert, negative status": (lambda: half_made(status=-8), "OverflowError"),
    "insert, state 255 of TCP": (lambda: half_made(proto=6, state=255), "ValueError"),
    "insert, state 10 of TCP": (lambda: half_made(proto=6, state=10), "ValueError"),
    "insert, state 9 of SCTP": (lambda: half_made(proto=132, state=9), "ValueError"),
    "insert, labels of 200 bits": (lambda: half_made(labels=1 << 200), "OverflowError"),
    "insert, tags of text": (lambda: half_made(proto=132, extra={"vtag": ("a", "b")}), "TypeError"),
    "insert, protocol 256": (lambda: half_made(proto=256), "OverflowError"),
    "insert, family 7": (lambda: half_made(family=7), ("ValueError", "OSError")),
    "insert, port 65536": (lambda: half_made(original=Side("10.0.0.1", "10.0.0.2", 65536, 2)), "OverflowError"),
    "insert, zone -1": (lambda: half_made(original=Side("10.0.0.1", "10.0.0.2", 1, 2, zone=-1)), "OverflowError"),
    "insert, no address": (lambda: half_made(original=Side("x", "y", 1, 2)), "OSError"),
    "insert, IPv6 in an IPv4 entry": (lambda: half_made(original=Side("::1", "::2", 1, 2)), "OSError"),
    "release 0": (lambda: table(3).release(0), ("done", "ValueError")),
    "release 2^32 - 1": (lambda: table(3).release(0xFFFFFFFF), "ValueError"),
    "release -1": (lambda: table(3).release(-1), ("OverflowError", "ValueError")),
    "release what nobody holds, twice": (lambda: released_twice(), "done"),
    "expect nothing": (lambda: table().expect(None), "AttributeError"),
    "expect of nobody": (lambda: table(1).expect(expectation()), "LookupError"),
    "expect, class 255": (lambda: table(1).expect(expectation(klass=255)), ("LookupError", "ValueError")),
    "expect, class 300": (lambda: table(1).expect(expectation(klass=300)), ("LookupError", "ValueError", "OverflowError")),
    "end an expectation, negative id": (lambda: kept_expect_lock(lambda t: t.expect_delete(1, -1)), "OverflowError"),
    "end an expectation that is not there": (lambda: table().expect_delete(0xFFFFFFFF, 1), "done"),
    "end expectation -1": (lambda: table().expect_delete(-1, 1), "OverflowError"),
    "listen to -1": (lambda: table().listen(-1), "OverflowError"),
    "listen to 2^64 - 1": (lambda: table().listen((1 << 64) - 1), ("MemoryError", "ValueError")),
    "events, -1": (lambda: table().events(-1), "OverflowError"),
    "process None": (lambda: table().process(None, NOW), "TypeError"),
    "process nothing": (lambda: table().process(b"", NOW), "done"),
    "process, hook 9": (lambda: table().process(UDP, NOW, hook=9), ("done", "ValueError")),
    "process, class 200": (lambda: table().process(UDP, NOW, ctinfo=200), ("done", "ValueError")),
    "process, total below the data": (lambda: table().process(UDP, NOW, total=2), ("done", "ValueError")),
    "process, 300,000 bytes": (lambda: table().process(UDP + bytes(300_000), NOW), ("done", "ValueError")),
    "expire at -1": (lambda: table().expire(-1), "OverflowError"),
    "alive, far outside": (lambda: _nat.alive(table(1), 0xFFFFFFFF, 1, NOW), "done"),
    "alive of None": (lambda: _nat.alive(None, 1, 1, NOW), "TypeError"),
    "forget masquerade of None": (lambda: _nat.forget_masquerade(None, 1), "TypeError"),
    "forget masquerade, 7 bytes": (lambda: _nat.forget_masquerade(table(1), 1, b"1234567"), "ValueError"),
    "forget masquerade, no bytes": (lambda: _nat.forget_masquerade(table(1), 1, b""), "ValueError"),
    "rebuild None": (lambda: _nat.rebuild(None), "TypeError"),
    "drill None": (lambda: _drill.establish(None, 1, NOW), "TypeError"),
    "drill 0 flows": (lambda: _drill.touch(table(), 0, 10, NOW, True), "ValueError"),
    "drill the floor of 1 flow": (lambda: _drill.memory_floor(table(), 1, 10, False), "ValueError"),
    "drill the floor of more flows than there is room": (lambda: _drill.memory_floor(table(), 1 << 40, 1000, False), "ValueError"),
}
HEADER = {  # of the Arena: place, bytes
    "magic": (0, 4), "version": (4, 4), "slots": (8, 4), "high": (12, 4), "size": (32, 8), "offset of the first": (40, 8),
    "offset of the last": (96, 8), "element": (104, 4), "count of the first": (136, 4), "count of expectations": (160, 4), "count of policies": (164, 4),
    "expect_high": (168, 4), "policy_high": (172, 4),
}
RULES = {
    "a named table of None": (lambda: NamedHandle(None), "TypeError"),
    "a named table of nothing": (lambda: NamedHandle(b""), "ValueError"),
    "a named table of 1,000 bytes": (lambda: NamedHandle(bytes(1000)), "ValueError"),
    "a named table asked again with nothing": (lambda: NamedHandle(bytes(16)).asked_again(b""), "ValueError"),
    "a named table asked again with None": (lambda: NamedHandle(bytes(16)).asked_again(None), "TypeError"),
    "take None": (lambda: NamedTables().take(None), "TypeError"),
    "lay out None": (lambda: Layout().add_rules(None, "filter", {}, None, None), "TypeError"),
    "lay out [None]": (lambda: Layout().add_rules([None], "filter", {}, None, None), "TypeError"),
    "lay out text": (lambda: Layout().add_rules(["x"], "filter", {}, None, None), "TypeError"),
    "append None": (lambda: Layout().append(None), "TypeError"),
    "an address of 100 bytes": (lambda: lay_out(Rule(bytes(100), bytes(100))), "ValueError"),
    "an address of 3 bytes": (lambda: lay_out(Rule(bytes(3), bytes(3))), "ValueError"),
    "a mask shorter than its address": (lambda: lay_out(Rule(bytes(16), b"\xff")), "ValueError"),
    "an address without a mask": (lambda: lay_out(Rule(bytes(4), None)), "ValueError"),
    "a mask of 0 bytes for a destination": (lambda: lay_out(Rule(destination=bytes(4), destination_mask=b"")), "ValueError"),
    "an IPv4 address in an IPv6 index": (lambda: lay_out(Rule(bytes(4), b"\xff" * 4), 10), ("done", "ValueError")),
    "an IPv6 address in an IPv4 index": (lambda: lay_out(Rule(bytes(16), b"\xff" * 16), 2), ("done", "ValueError")),
    "protocol 300": (lambda: lay_out(Rule(protocol=300)), ("done", "ValueError")),
    "protocol 2^40": (lambda: Rule(protocol=1 << 40), "OverflowError"),
    "a target that no chain is": (lambda: lay_out(Rule(target=SimpleNamespace(ext=None, lowered=None))), "AttributeError"),
    "print None": (lambda: rule_text(None), "TypeError"),
    "print [None]": (lambda: rule_lines([None], "INPUT", True), "TypeError"),
    "print an address without a mask": (lambda: rule_text(Rule(bytes(4), None)), ("TypeError", "ValueError")),
    "print an address with a mask of 1 byte": (lambda: rule_text(Rule(bytes(4), b"\xff")), "ValueError"),
    "print an address of 5 bytes": (lambda: rule_text(Rule(bytes(5), bytes(5))), "ValueError"),
    "print protocol 300": (lambda: rule_text(Rule(protocol=300)), ("KeyError", "ValueError", "done")),
    "compare with None": (lambda: Rule().same_as(None), "TypeError"),
    "look for a rule among [None]": (lambda: find_same([Rule(protocol=6), None], Rule()), "TypeError"),
    "look at [None]": (lambda: not_plain([None]), "TypeError"),
    "what None and a list begin with": (lambda: common_ends(None, []), "TypeError"),
    "scan from -1": (lambda: scan(b"-A INPUT\n", -1), "ValueError"),
    "scan from beyond": (lambda: scan(b"-A INPUT\n", 1 << 40), "ValueError"),
    "scan None": (lambda: scan(None, 0), "TypeError"),
    "scan a lone blank": (lambda: scan(b" ", 0), "done"),
    "scan from the end": (lambda: scan(b"-A INPUT\n", 9), "done"),
    "scan an open count": (lambda: scan(b"[", 0), "done"),
    "fields of None": (lambda: Fields(None), "TypeError"),
    "fields of ports beyond": (lambda: Fields([field("tcp", "dport", ((0, 70_000), (1, 2)))]), "OverflowError"),
    "fields of a negative number": (lambda: Fields([field("src4", "saddr", ((-1, 5),))]), "OverflowError"),
    "fields of 2^200": (lambda: Fields([field("src6", "saddr", ((0, 1 << 200),))]), "OverflowError"),
    "boxes of nothing": (lambda: Boxes(2).build(0), "done"),
    "index of text": (lambda: build_index("x", "y", 0, False), "TypeError"),
    "index of part of a box": (lambda: build_index(bytes(50), b"", 0, False), "ValueError"),
    "index of boxes whose lists lie elsewhere": (lambda: build_index(bytes(range(256)) * 400, b"", 0, False), "ValueError"),
}
QUEUE = {
    "feed None": (lambda: Feed(None), "AttributeError"),
    "feed an engine with another door": (lambda: Feed(SimpleNamespace(door=lambda: b"")), "ValueError"),
    "feed, data None": (lambda: Feed(AcceptAll()).add(None, 0, id=1), "TypeError"),
    "feed, hook 200": (lambda: fed(hook=200), "ValueError"),
    "feed, hook 5": (lambda: fed(hook=5), "ValueError"),
    "feed, family 7": (lambda: fed(hook=FORWARD, family=7), "ValueError"),
    "feed, 65,537 bytes": (lambda: fed(data=bytes(65_537)), "ValueError"),
    "feed, 65,536 bytes": (lambda: fed(data=bytes(65_536)), "done"),
    "feed, 65 packets": (lambda: fed(count=65), "ValueError"),
    "feed, id -1": (lambda: fed(id=-1), "OverflowError"),
    "feed, an engine that is gone": (lambda: fed_after(), "done"),
    "measure nothing": (lambda: Feed(loaded_engine()).measure(3, 0, NOW, NOW), "done"),
    "a View of one's own": (lambda: View().data, ("ValueError", "TypeError")),
    "a View of one's own, set": (lambda: setattr(View(), "mark", 1), ("ValueError", "TypeError")),
    "a View kept, read": (lambda: kept_view(lambda view: view.data), "ValueError"),
    "a View kept, its mark": (lambda: kept_view(lambda view: view.mark), "ValueError"),
    "a View kept, its id": (lambda: kept_view(lambda view: view.id), "ValueError"),
    "a View kept, written": (lambda: kept_view(lambda view: setattr(view, "data", b"x")), "ValueError"),
    "a View kept, verdict": (lambda: kept_view(lambda view: setattr(view, "verdict", 0)), "ValueError"),
    "a callback with None for data": (lambda: decided(lambda view: setattr(view, "data", None) or 1), "done"),
    "a callback with 1 MiB for data": (lambda: decided(lambda view: setattr(view, "data", bytes(1 << 20)) or 1), "done"),
    "a callback that says 200": (lambda: decided(lambda view: 200), "done"),
    "a callback that says text": (lambda: decided(lambda view: "ACCEPT"), "done"),
    "a callback that is none": (lambda: decided(7), "done"),
    "a reply of 5,000 bytes": (lambda: long_reply(), "done"),
    "release 10,000": (lambda: [Callback(None).release(1, 1) for _ in range(3)], "done"),
    "release into a full outbox": (lambda: full_outbox(), "MemoryError"),
    "rewrite inside of 1 byte": (lambda: RewriteAll(b"x", b"1234"), "ValueError"),
    "rewrite None": (lambda: RewriteAll(None, None), "TypeError"),
    "queue -1": (lambda: Queue(-1), "ValueError"),
    "queue 65536": (lambda: Queue(65_536), "ValueError"),
    "queue of index -1": (lambda: Queue(1, index=-1), "ValueError"),
    "queue, a receive buffer of 4 GiB": (lambda: Queue(1, receive_buffer=1 << 31), "ValueError"),
    "queue, use None": (lambda: Queue(1).use(None), "AttributeError"),
    "queue, use no door": (lambda: Queue(1).use(SimpleNamespace(door=lambda: None)), "ValueError"),
    "queue, run unopened": (lambda: whole_queue(AcceptAll()).run(), "ValueError"),
    "queue, run without an engine": (lambda: Queue(1).run(), "ValueError"),
    "queue, stop, wake and close unopened": (lambda: closed_twice(), "done"),
    "queue, inject without an engine": (lambda: Queue(1).inject(b""), "ValueError"),
    "queue, inject None": (lambda: whole_queue(AcceptAll()).inject(None), "TypeError"),
    "queue, inject 100,000 bytes": (lambda: whole_queue(AcceptAll()).inject(bytes(100_000)), "ValueError"),
    "queue, hook 5 of a bridge": (lambda: whole_queue(loaded_engine()).inject(message(hook=5)), "done"),
    "queue, hook 255": (lambda: whole_queue(loaded_engine()).inject(message(hook=255)), "done"),
    "queue, family 7": (lambda: whole_queue(loaded_engine()).inject(message(family=7)), "done"),
    "queue gone, its engine judges on": (stale_sender, "done"),
    "queue, another engine, then closed": (lambda: two_engines(), "done"),
}


# ---- longer calls of the tables above ------------------------------------------------------------------------------------

def changed_host() -> None:
    block = bytearray(HOST)
    made = loaded_engine(host=block)
    block[16:20] = b"\xff" * 4
    made.one(PacketIn(UDP, FORWARD, 2, 2), NOW, NOW)


def spoilt_program(cut: bool = False, **changed) -> None:
    good = program()
    fields = {name: getattr(good, name) for name in (*good.__slots__, "counters_room")} | changed
    if cut:
        fields["block"] = good.block[:-8]
    LoadedProgram(SimpleNamespace(**fields))


def inherit_tables(number: int) -> None:
    text = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m recent --set --name a\nCOMMIT\n"
    made = [LoadedProgram(compile_rulesets([load(text, "doors", 2)])) for _ in range(2)]
    made[0].inherit_tables(made[1], [(number, 0)])


def held_and_released() -> None:
    """Fragments that lose DF, released by one batch of `process` and taken after the last, when their datagrams are gone."""
    def piece(id: int, offset: int, more: bool) -> PacketIn:
        head = bytearray(UDP[:20])
        head[2:4] = (36).to_bytes(2, "big")
        head[4:6] = id.to_bytes(2, "big")
        head[6:8] = (offset | more << 13 | DF).to_bytes(2, "big")
        head[10:12] = b"\0\0"
        total = sum(struct.unpack(">10H", head))
        head[10:12] = (0xFFFF ^ ((total & 0xFFFF) + (total >> 16))).to_bytes(2, "big")
        data = struct.pack(">HHHH", 5, 53, 32, 0) + b"12345678" if not offset else b"x" * 16
        return PacketIn(bytes(head) + data, FORWARD, 2, 2, id=2 * id + offset)

    made = loaded_engine(host=HOST)
    packets = [each for id in range(50) for each in (piece(id, 2, False), piece(id, 0, True))]
    made.process(packets, NOW, NOW)
    first, second = made.take_released(), made.take_released()
    assert len(first) == 100 and second == []
    for (_, verdict, data, _, _), ending in zip(first, (b"12345678", b"x" * 16) * 50, strict=True):
        assert verdict == 1 and len(data) == 36 and data.endswith(ending) and not data[6] & DF >> 8, data


def fill(flows: ConntrackTable) -> None:
    for port in range(50):
        flows.process(UDP[:20] + struct.pack(">HHHH", 1000 + port, 53, 8, 0), NOW)
    list_all(flows)


def twice_initialised() -> None:
    flows = table(5)
    and_then(lambda: flows.__init__(64, 256), lambda: list_all(flows), lambda: fill(flows))


def id_of(flows: ConntrackTable) -> int:
    return next(each.id for each in flows.list(True, NOW) if each.number == 1)


def kept_lock(call) -> None:
    flows = table(3)
    and_then(lambda: call(flows), lambda: list_all(flows))


def changed_state(proto: int, state: int) -> None:
    flows = table()
    flows.insert(entry(proto=proto), NOW)
    and_then(lambda: flows.change(1, id_of(flows), state=state), lambda: flows.process(syn(proto, False), NOW), lambda: list_all(flows))


def kept_expect_lock(call) -> None:
    flows = table(3)
    and_then(lambda: call(flows), lambda: flows.expectations(NOW))


def half_made(**changed) -> None:
    """Insert it; then again, as it should be; packets and listings find the table whole."""
    flows = table(2)

    def look() -> None:
        assert len(flows.list(True, NOW)) == flows.count
        flows.insert(entry(original=Side("10.0.0.3", "10.0.0.4", 1, 2), reply=Side("10.0.0.4", "10.0.0.3", 2, 1)), NOW)
        for proto in (6, 132):
            for back in (False, True):
                flows.process(syn(proto, back), NOW)
        flows.flush()
        assert flows.count == 0

    and_then(lambda: flows.insert(entry(**changed), NOW), look)


def syn(proto: int, back: bool) -> bytes:
    """A segment of 10.0.0.1:1 -> 10.0.0.2:2, or the way back; its checksum is not looked at."""
    ends = (b"\x0a\0\0\2\x0a\0\0\1", 2, 1) if back else (b"\x0a\0\0\1\x0a\0\0\2", 1, 2)
    body = struct.pack(">HHIIBBHHH", ends[1], ends[2], 1, 1, 0x50, 0x10, 1000, 0, 0) if proto == 6 else struct.pack(
        ">HHII", ends[1], ends[2], 0, 0) + b"\x03\0\0\4"
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, proto, 0) + ends[0]
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + (0xFFFF ^ total).to_bytes(2, "big") + head[12:] + body


def released_twice() -> None:
    flows = table()
    number = flows.process(UDP, NOW, confirm=False)[2]
    for _ in range(3):
        flows.release(number)
    list_all(flows)
    fill(flows)


def expectation(**changed) -> Expectation:
    side, mask = Side("10.0.0.1", "10.0.0.2", 0, 2000), Side("255.255.255.255", "255.255.255.255", 0, 65535)
    return Expectation(**({"family": 2, "proto": 6, "side": side, "mask": mask, "master": Side("10.0.0.9", "10.0.0.8", 1, 2)} | changed))


def field(op: str, name: str, ranges: tuple):
    return SimpleNamespace(op=op, fields=((name, ranges),), reads=0)


def fed(data: bytes = UDP, hook: int = FORWARD, count: int = 1, id: int = 1, **facts) -> None:
    feed = Feed(loaded_engine(host=HOST))
    for _ in range(count):
        feed.add(data, hook, id=id, **facts)
    feed.run(NOW, NOW)
    feed.idle(NOW)


def fed_after() -> None:
    made = loaded_engine(host=HOST)
    feed = Feed(made)
    del made
    feed.add(UDP, FORWARD, id=1)
    feed.run(NOW, NOW)


def decided(decide) -> None:
    made = Callback(decide)
    feed = Feed(made)
    feed.add(UDP, FORWARD, id=1)
    feed.run(NOW, NOW)
    queue = whole_queue(Callback(decide))
    queue.inject(message())


def long_reply() -> None:
    """Refused, and nothing is left of it in the outbox."""
    made = Callback(lambda view: 1)
    feed = Feed(made)
    try:
        made.reply(2, bytes(5000))
    except ValueError:
        assert feed.replies() == []
    else:
        raise AssertionError("taken")


def full_outbox() -> None:
    made = Callback(lambda view: 1)
    for number in range(100_000):
        made.release(number, 1)


def closed_twice() -> None:
    queue = whole_queue(AcceptAll())
    for _ in range(2):
        queue.stop()
        queue.wake()
        queue.close()
    queue.set_copy_range(100)
    queue.statistics()


def two_engines() -> None:
    queue = whole_queue(loaded_engine())
    queue.use(loaded_engine())
    queue.inject(message())
    queue.close()
    queue.inject(message())


def message(hook: int = FORWARD, family: int = 2) -> bytes:
    """A packet message of the kernel's: packet header and payload (spec of nfnetlink_queue)."""
    def attribute(kind: int, body: bytes) -> bytes:
        return struct.pack("<HH", 4 + len(body), kind) + body + bytes(-len(body) % 4)

    body = struct.pack(">BBH", family, 0, 0) + attribute(1, struct.pack(">IHB", 7, 0x800, hook)) + attribute(10, UDP)
    return struct.pack("<IHHII", 16 + len(body), 0x300, 0, 0, 0) + body


def check(call, wanted) -> None:
    said = outcome(call)
    names = (wanted,) if isinstance(wanted, str) else wanted
    assert said.removeprefix("unclear ").split(":")[0] in names, said
    assert not said.startswith("unclear ") or "AttributeError" in names, said


@pytest.mark.parametrize("name", ENGINE)
def test_engine(name):
    check(*ENGINE[name])


@pytest.mark.parametrize("name", TABLE)
def test_table(name):
    check(*TABLE[name])


@pytest.mark.parametrize("value", [0, 1, 0xFFFFFFFF, (1 << 64) - 1], ids=hex)
@pytest.mark.parametrize("word", HEADER)
def test_arena_header(word, value):
    place, size = HEADER[word]
    check(lambda: spoilt_arena(place, value & (1 << 8 * size) - 1, size), ("ArenaError", "done") if word in ("high", "expect_high", "policy_high") and value == 1 else "ArenaError")


@pytest.mark.parametrize("name", RULES)
def test_rules(name):
    check(*RULES[name])


@pytest.mark.parametrize("name", QUEUE)
def test_queue(name):
    check(*QUEUE[name])
