"""Entries as text: the lines of conntrack 1.4.7, of /proc/net/nf_conntrack, `-o save`, `-o xml`, and JSON.

Byte for byte what the tool prints (spec/conntrack.md 1.9, 1.10; tests/conntrack/test_command.py asks the real one).
Pure functions of an Entry; nothing here knows a table.
"""

import ipaddress
import sys
import time

from nfqfw.conntrack import tcp
from nfqfw.conntrack.entry import ASSURED, DST_NAT, PORT_PROTOCOLS, SEEN_REPLY, SRC_NAT, TELL_MARK, Entry, Side
from nfqfw.ext import connlabels

NAMES = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 58: "icmpv6", 132: "sctp", 136: "udplite"}
DCCP = 33
PROC_NAMES = {proto: word for proto, word in NAMES.items() if proto != DCCP}
FAMILIES = {2: "ipv4", 10: "ipv6"}
STATUS_WORDS = ((2, "SEEN_REPLY"), (4, "ASSURED"), (1024, "FIXED_TIMEOUT"), (1, "EXPECTED"))
EVENTS = {"NEW": "    [NEW] ", "UPDATE": " [UPDATE] ", "DESTROY": "[DESTROY] "}


def name(proto: int) -> str:
    return NAMES.get(proto, "unknown")


def key_words(entry: Entry, side: Side) -> str:
    """Ports, or what stands for them; a leading blank, or nothing."""
    if entry.proto in PORT_PROTOCOLS:
        return f" sport={side.sport} dport={side.dport}"
    if entry.proto in (1, 58):
        return f" type={side.dport >> 8} code={side.dport & 255} id={side.sport}"
    if entry.proto == 47:
        return f" srckey={side.sport:#x} dstkey={side.dport:#x}"
    return ""


def counters(entry: Entry, side: Side) -> str:
    return f" packets={side.packets} bytes={side.bytes}" if entry.acct else ""


def common_zone(entry: Entry) -> int:
    """Zone of both directions, 0 = none or not the same."""
    return entry.original.zone if entry.original.zone == entry.reply.zone else 0


def middle(entry: Entry, show=str, dccp: str = " sport=0 dport=0") -> str:
    """Both tuples with zones and counters, [UNREPLIED] between them; `show` writes an address.

    dccp: the kernel has no tracker for it, but the tool shows ports, which it is not told.
    """
    keys = {DCCP: dccp}.get(entry.proto)
    a, b = entry.original, entry.reply
    one_way = a.zone != b.zone
    return (
        f"src={show(a.src)} dst={show(a.dst)}{key_words(entry, a) if keys is None else keys}"
        + (f" zone-orig={a.zone}" if one_way and a.zone else "") + counters(entry, a)
        + ("" if entry.status & SEEN_REPLY else " [UNREPLIED]")
        + f" src={show(b.src)} dst={show(b.dst)}{key_words(entry, b) if keys is None else keys}"
        + (f" zone-reply={b.zone}" if one_way and b.zone else "") + counters(entry, b)
        + (" [ASSURED]" if entry.status & ASSURED else "")
    )


def times(entry: Entry, now_ns: int, output: frozenset) -> str:
    """delta-time, and with ktimestamp the wall clock of start and stop."""
    if not entry.start_ns:
        return ""
    text = f" delta-time={max(0, (entry.stop_ns or now_ns) - entry.start_ns) // 10**9}"
    if "ktimestamp" in output:
        text += f" [start={ctime(entry.start_ns)}]"
        if entry.stop_ns:
            text += f" [stop={ctime(entry.stop_ns)}]"
    return text


def ctime(wall_ns: int) -> str:
    return time.ctime(wall_ns // 10**9)


def line(entry: Entry, now_ns: int, output: frozenset = frozenset()) -> str:
    """One entry as -L, -G, -D, -U and -E print it.  `output`: extended, id, ktimestamp, labels."""
    state = f"{entry.state_name} " if entry.state_name else ""
    zone = common_zone(entry)
    event = entry.kind is not None
    return (
        (f"{FAMILIES[entry.family]:<8} {entry.family} " if "extended" in output else "")
        + f"{name(entry.proto):<8} {entry.proto} {entry.timeout} {state}" + middle(entry)
        + ("" if event and not entry.mark and not entry.told & TELL_MARK else f" mark={entry.mark}") + label(entry)
        + (f" zone={zone}" if zone else "") + times(entry, now_ns, output)
        + (f" helper={entry.helper}" if entry.helper and entry.kind != "DESTROY" else "")
        + ("" if event else f" use={entry.use}")
        + (f" id={entry.id}" if "id" in output else "")
        + (f" labels{label_text(entry.labels)}" if "labels" in output and entry.labels and entry.kind != "DESTROY" else "")
        + (f" [USERSPACE] portid={entry.portid}" if event and entry.portid else "")
    )


def label(entry: Entry) -> str:
    return f" secctx={entry.secctx}" if entry.secctx else ""


def label_text(labels: int) -> str:
    """Behind the word: `=name,name`; nothing if none of them has a name; their bits where this host names no labels."""
    if not connlabels.named():
        return f"={labels:#x}"
    names = connlabels.names_of(labels)
    return "=" + ",".join(names) if names else ""


def event_line(entry: Entry, now_ns: int, output: frozenset = frozenset()) -> str:
    """One event as -E prints it."""
    stamp = ""
    if "timestamp" in output:
        stamp = f"[{entry.wall_ns // 10**9}.{entry.wall_ns // 1000 % 10**6:06}]\t"
    return stamp + EVENTS[entry.kind] + line(entry, now_ns, output)


def full_address(text: str) -> str:
    """IPv6 as /proc has it: eight groups of four."""
    return ipaddress.IPv6Address(text).exploded if ":" in text else text


def proc_line(entry: Entry, now_ns: int) -> str:
    """One line of /proc/net/nf_conntrack."""
    state = f"{entry.state_name} " if entry.state_name else ""
    if entry.proto == 47:
        state = "timeout={}, stream_timeout={} ".format(*entry.extra.get("gre", (30, 180)))
    one_way = entry.original.zone != entry.reply.zone
    return (
        f"{FAMILIES[entry.family]:<8} {entry.family} {PROC_NAMES.get(entry.proto, 'unknown'):<8} {entry.proto} {entry.timeout} {state}"
        + middle(entry, full_address, "") + f" mark={entry.mark}" + label(entry) + ("" if one_way else f" zone={common_zone(entry)}")
        + times(entry, now_ns, frozenset()) + f" use={entry.use + 1}"
    )


# ---- -o save: arguments with which -R makes the entry again --------------------------------------------------------------

def save_line(entry: Entry) -> str:
    a, b = entry.original, entry.reply
    words = ",".join(word for bit, word in STATUS_WORDS if entry.status & bit) or "UNSET"
    parts = [f"-A -t {entry.timeout} -u {words}"]
    if common_zone(entry):
        parts.append(f"-w {common_zone(entry)}")
    elif a.zone or b.zone:
        parts += [f"--orig-zone {a.zone}"] if a.zone else []
        parts += [f"--reply-zone {b.zone}"] if b.zone else []
    source, target = ("-g" if entry.status & DST_NAT else "-r"), ("-n" if entry.status & SRC_NAT else "-q")
    parts.append(f"-s {a.src} -d {a.dst} {source} {b.src} {target} {b.dst}")
    parts.append(f"-p {NAMES.get(entry.proto, entry.proto)}{save_keys(entry)}")
    return " ".join(parts)


def save_keys(entry: Entry) -> str:
    a, b = entry.original, entry.reply
    if entry.proto in (1, 58):
        prefix = "--" + name(entry.proto)
        return f" {prefix}-type {a.dport >> 8} {prefix}-code {a.dport & 255} {prefix}-id {a.sport}"
    if entry.proto == 47:
        return f" --srckey {a.sport} --dstkey {a.dport} --reply-key-src {b.sport} --reply-key-dst {b.dport}"
    if entry.proto not in PORT_PROTOCOLS:
        return ""
    text = f" --sport {a.sport} --dport {a.dport} --reply-port-src {b.sport} --reply-port-dst {b.dport}"
    if entry.state_name:
        text += f" --state {entry.state_name}"
    if entry.proto == 132:
        tags = [swapped(tag) for tag in entry.extra.get("vtag", (0, 0))]
        text += f" --orig-vtag {tags[0]} --reply-vtag {tags[1]}"
    return text


def swapped(tag: int) -> int:
    """A verification tag as the tool writes and reads it: the four bytes of the wire taken as a number of this machine."""
    return int.from_bytes(tag.to_bytes(4, "big"), sys.byteorder)


# ---- -o xml --------------------------------------------------------------------------------------------------------------

XML_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<conntrack>'
XML_TAIL = "</conntrack>"


def xml_line(entry: Entry, now_ns: int, output: frozenset = frozenset()) -> str:
    kind = f' type="{entry.kind.lower()}"' if entry.kind else ""
    return (f"<flow{kind}>" + xml_side(entry, entry.original, "original") + xml_side(entry, entry.reply, "reply")
            + xml_independent(entry, now_ns, output) + (f"<helper>{entry.helper}</helper>" if entry.helper else "") + "</flow>")


def xml_side(entry: Entry, side: Side, direction: str) -> str:
    keys = ""
    if entry.proto in PORT_PROTOCOLS or entry.proto == DCCP:
        keys = f"<sport>{side.sport}</sport><dport>{side.dport}</dport>"
    elif entry.proto == 47:
        keys = f"<srckey>{side.sport:#x}</srckey><dstkey>{side.dport:#x}</dstkey>"
    zone = f"<zone>{side.zone}</zone>" if side.zone and not common_zone(entry) else ""
    count = f"<counters><packets>{side.packets}</packets><bytes>{side.bytes}</bytes></counters>" if entry.acct else ""
    return (
        f'<meta direction="{direction}"><layer3 protonum="{entry.family}" protoname="{FAMILIES[entry.family]}">'
        f"<src>{side.src}</src><dst>{side.dst}</dst></layer3>"
        f'<layer4 protonum="{entry.proto}" protoname="{name(entry.proto)}">{keys}</layer4>{zone}{count}</meta>'
    )


def xml_independent(entry: Entry, now_ns: int, output: frozenset) -> str:
    text = '<meta direction="independent">'
    if entry.state_name:
        text += f"<state>{tcp.STATES[entry.state]}</state>"     # the tool prints TCP's word for an SCTP state too
    text += f"<timeout>{entry.timeout}</timeout><mark>{entry.mark}</mark>"
    if common_zone(entry):
        text += f"<zone>{common_zone(entry)}</zone>"
    if "labels" in output and entry.labels and entry.kind != "DESTROY" and connlabels.named():
        text += "<labels>" + "".join(f"<label>{name}</label>" for name in connlabels.names_of(entry.labels)) + "</labels>"
    if entry.kind is None:
        text += f"<use>{entry.use}</use>"
    text += f"<id>{entry.id}</id>"
    if entry.status & ASSURED:
        text += "<assured/>"
    if not entry.status & SEEN_REPLY:
        text += "<unreplied/>"
    if entry.start_ns:
        if "timestamp" in output or "ktimestamp" in output:
            stop = f"<stop>{entry.stop_ns}</stop>" if entry.stop_ns else ""
            text += f"<timestamp><start>{entry.start_ns}</start>{stop}</timestamp>"
        text += f"<deltatime>{max(0, (entry.stop_ns or now_ns) - entry.start_ns) // 10**9}</deltatime>"
    return text + "</meta>"


# ---- -o json -------------------------------------------------------------------------------------------------------------

def as_dict(entry: Entry) -> dict:
    """What a line says, for `-o json` and for programs."""
    def side(s: Side) -> dict:
        words = {"src": s.src, "dst": s.dst}
        for word in key_words(entry, s).split():
            key, value = word.split("=")
            words[key] = int(value, 0)
        if s.zone:
            words["zone"] = s.zone
        if entry.acct:
            words |= {"packets": s.packets, "bytes": s.bytes}
        return words

    out = {"family": FAMILIES[entry.family], "protocol": name(entry.proto), "protonum": entry.proto, "timeout": entry.timeout}
    if entry.state_name:
        out["state"] = entry.state_name
    out |= {"original": side(entry.original), "reply": side(entry.reply), "replied": bool(entry.status & SEEN_REPLY),
            "assured": bool(entry.status & ASSURED), "mark": entry.mark, "use": entry.use, "id": entry.id}
    if entry.helper:
        out["helper"] = entry.helper
    if entry.labels:
        out["labels"] = connlabels.names_of(entry.labels) if connlabels.named() else f"{entry.labels:#x}"
    if entry.start_ns:
        out["start_ns"] = entry.start_ns
    if entry.kind:
        out |= {"event": entry.kind, "wall_ns": entry.wall_ns}
    return out
