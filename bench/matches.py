"""What does one evaluation of each match and target cost?  No kernel: a rule repeated in one chain, less the chain with it once.

Batches of 64 packets go through the engine's own door, without an index over the rules.  The packet is one that the match answers
yes to, so that nothing of it is left out, and the rule is a common one that asks much.  A target that goes on is repeated
too, with arguments that change from rule to rule; one that decides is there once, beside the same chain without it.  A rule's own
part (its counters, the step to the next) is in every figure; the row `(a rule that asks nothing)` shows it.
"""

from __future__ import annotations

import statistics
import struct
import sys
from typing import NamedTuple

from bench.result import Arguments, Axis, Check, Figure, Machine, Plot, at_most, report, reported

BATCH, COPIES = 64, 64
PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
BOUND_NS = 1_000
UNBOUNDED = {"string", "bpf", "u32"}        # as long as what they are given: reported
ETH0, ETH1 = 2, 3
MATCH, CONTINUES, DECIDES = "match", "target", "target, decides"
NOTHING = "(a rule that asks nothing)"


class Case(NamedTuple):
    """One name.  rule may hold {n}, the number of the copy: 1 to 65."""

    name: str
    rule: str
    packet: str = "udp"             # key of packets()
    table: str = "mangle"
    hook: int = FORWARD
    kind: str = MATCH
    note: str = ""


def matches() -> list[Case]:
    return [
        Case(NOTHING, ""),
        Case("addrtype", "-m addrtype --src-type UNICAST --dst-type UNICAST,MULTICAST"),
        Case("ah", "-p ah -m ah --ahspi 1:9", "ah"),
        Case("bpf", '-m bpf --bytecode "4,48 0 0 9,21 0 1 17,6 0 0 1,6 0 0 0"', note="4 instructions"),
        Case("cluster", "-m cluster --cluster-local-nodemask 0x3 --cluster-total-nodes 2 --cluster-hash-seed 0x1"),
        Case("comment", "-m comment --comment words"),
        Case("connbytes", "-m connbytes --connbytes 1: --connbytes-mode avgpkt --connbytes-dir both"),
        Case("connlabel", "-m connlabel --label 41 --set"),
        Case("connlimit", "-m connlimit --connlimit-upto 1000 --connlimit-mask 24", note="a table per rule"),
        Case("connmark", "-m connmark --mark 0x0/0xff"),
        Case("conntrack", "-m conntrack --ctstate NEW,ESTABLISHED --ctproto udp --ctorigdstport 53 --ctdir ORIGINAL"),
        Case("dccp", "-p dccp -m dccp --dport 53 --dccp-types REQUEST", "dccp"),
        Case("devgroup", "-m devgroup --src-group 0x0 --dst-group 0x0/0xff"),
        Case("dscp", "-m dscp --dscp 0x00"),
        Case("dst", "-m dst --dst-len 8 --dst-opts 1:4", "options"),
        Case("ecn", "-p tcp -m ecn ! --ecn-tcp-cwr --ecn-ip-ect 2", "tcp"),
        Case("esp", "-p esp -m esp --espspi 1:9", "esp"),
        Case("eui64", "-m eui64", "eui64", hook=PREROUTING),
        Case("frag", "-m frag --fragid 1:42 --fragfirst", "fragment6", table="raw", hook=PREROUTING),
        Case("hashlimit", "-m hashlimit --hashlimit-name h{n} --hashlimit-upto 1000000/s --hashlimit-burst 1000000 --hashlimit-mode srcip,dstip,srcport,dstport",
             note="a table per rule"),
        Case("hbh", "-m hbh --hbh-len 8 --hbh-opts 1:4", "options"),
        Case("helper", "-m helper ! --helper ftp"),
        Case("hl", "-m hl --hl-gt 5", "udp6"),
        Case("icmp", "-p icmp -m icmp --icmp-type 8/0", "icmp"),
        Case("icmp6", "-p ipv6-icmp -m icmp6 --icmpv6-type 128/0", "icmp6"),
        Case("ipcomp", "-p ipcomp -m ipcomp --ipcompspi 1:9", "ipcomp"),
        Case("iprange", "-m iprange --src-range 10.0.0.0-10.9.9.9 --dst-range 10.0.0.0-10.9.9.9"),
        Case("ipv6header", "-m ipv6header --header hop-by-hop --soft", "options"),
        Case("length", "-m length --length 20:1500"),
        Case("limit", "-m limit --limit 10000/sec --limit-burst 10000"),
        Case("mac", "-m mac --mac-source 02:00:00:00:01:02"),
        Case("mark", "-m mark --mark 0x0/0xff"),
        Case("mh", "-p mobility-header -m mh --mh-type 1:5", "mh"),
        Case("multiport", "-p udp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12:13,53", note="15 ports"),
        Case("owner", "-m owner --uid-owner 0-10 --gid-owner 0", hook=OUTPUT),
        Case("physdev", "-m physdev ! --physdev-in eth+ ! --physdev-out lo"),
        Case("pkttype", "-m pkttype --pkt-type unicast"),
        Case("quota", "-m quota --quota 1000000000000"),
        Case("recent", "-m recent --set --name r{n} --mask 255.255.255.255 --rsource", note="a table per rule"),
        Case("rt", "-m rt --rt-type 2 --rt-segsleft 1", "routing"),
        Case("sctp", "-p sctp -m sctp --dport 53 --chunk-types any INIT,DATA", "sctp"),
        Case("state", "-m state --state NEW,ESTABLISHED"),
        Case("statistic", "-m statistic --mode random --probability 0.9999"),
        Case("string", '-m string ! --string "needle in a haystack" --algo bm', "big", note="1,400 bytes searched"),
        Case("tcp", "-p tcp -m tcp --sport 1024:65535 --dport 53 --tcp-flags FIN,SYN,RST,ACK SYN --tcp-option 2", "tcp"),
        Case("tcpmss", "-p tcp -m tcpmss --mss 1400:1500", "tcp"),
        Case("time", "-m time --timestart 00:00:00 --timestop 23:59:59 --weekdays Mon,Tue,Wed,Thu,Fri,Sat,Sun --datestart 2020-01-01"),
        Case("tos", "-m tos --tos 0x00/0xff"),
        Case("ttl", "-m ttl --ttl-gt 5"),
        Case("u32", '-m u32 --u32 "0x6&0xff=0x11&&0x0>>0x16&0x3c@0x0&0xffff=0x35"', note="port behind the header"),
        Case("udp", "-p udp -m udp --sport 1024:65535 --dport 53"),
    ]


def targets() -> list[Case]:
    def goes_on(name: str, rule: str, packet: str = "udp", **where) -> Case:
        return Case(name, rule, packet, kind=CONTINUES, **where)

    def decides(name: str, rule: str, packet: str = "udp", **where) -> Case:
        return Case(name, rule, packet, kind=DECIDES, **where)

    return [
        goes_on("CHECKSUM", "-j CHECKSUM --checksum-fill"),
        goes_on("CLASSIFY", "-j CLASSIFY --set-class 1:{n}"),
        goes_on("CONNMARK", "-j CONNMARK --set-xmark {n}/0xff"),
        goes_on("CONNSECMARK", "-j CONNSECMARK --save"),
        goes_on("CT", "-j CT --ctevents new,destroy", table="raw", hook=PREROUTING),
        goes_on("DNPT", "-j DNPT --src-pfx 2001:db8:b::/64 --dst-pfx 2001:db8:b::/64", "udp6", hook=PREROUTING),
        goes_on("DSCP", "-j DSCP --set-dscp {n6}"),
        goes_on("ECN", "-p tcp -j ECN --ecn-tcp-cwr {n1}", "tcp"),
        goes_on("HL", "-j HL --hl-set {n}", "udp6"),
        decides("LOG", '-j LOG --log-prefix "dropped "', note="into the ring; printed by another thread"),
        goes_on("MARK", "-j MARK --set-xmark {n}/0xff"),
        goes_on("NOTRACK", "-j NOTRACK", table="raw", hook=PREROUTING),
        goes_on("SECMARK", "-j SECMARK --selctx system_u:object_r:x{n}_t:s0"),
        goes_on("SNPT", "-j SNPT --src-pfx 2001:db8:a::/64 --dst-pfx 2001:db8:a::/64", "udp6", hook=POSTROUTING),
        goes_on("TCPMSS", "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss {down}", "tcp"),
        goes_on("TCPOPTSTRIP", "-p tcp -j TCPOPTSTRIP --strip-options 5,8,19", "tcp"),
        goes_on("TOS", "-j TOS --set-tos {n}/0xff"),
        goes_on("TRACE", "-j TRACE", table="raw", hook=PREROUTING, note="the mark alone: not what tracing then costs"),
        goes_on("TTL", "-j TTL --ttl-set {n}"),
        decides("DNAT", "-p udp -j DNAT --to-destination 10.2.0.99:1053", table="nat", hook=PREROUTING, note="with the new connection's tuple"),
        decides("MASQUERADE", "-j MASQUERADE", table="nat", hook=POSTROUTING, note="with the new connection's tuple"),
        decides("NETMAP", "-j NETMAP --to 10.9.0.0/16", table="nat", hook=PREROUTING, note="with the new connection's tuple"),
        decides("REDIRECT", "-p udp -j REDIRECT --to-ports 1053", table="nat", hook=PREROUTING, note="with the new connection's tuple"),
        decides("REJECT", "-j REJECT --reject-with icmp-port-unreachable", table="filter", note="with the reply"),
        decides("SNAT", "-j SNAT --to-source 10.0.2.9", table="nat", hook=POSTROUTING, note="with the new connection's tuple"),
    ]


# ---- packets ----------------------------------------------------------------------------------------------------------

def packets() -> dict[str, bytes]:
    """Kind -> bytes from the IP header on; every one is a request from C0 to S0."""
    from nfqfw.selftest.packets import IPV4, IPV6, Packet, build, ip4_header, ip6_header

    ends = Packet(sport=40_000, dport=53)
    udp = Packet("udp", sport=40_000, dport=53, length=32)

    def ip4(proto: int, body: bytes) -> bytes:
        return ip4_header(ends, proto, len(body), 1, 0) + body

    def ip6(proto: int, body: bytes, packet: Packet = ends) -> bytes:
        return ip6_header(packet, proto, len(body)) + body

    ports = struct.pack(">HH", 40_000, 53)
    udp6 = build(udp, IPV6)[40:]
    option = bytes((1, 4, 0, 0, 0, 0))
    own_link = Packet(src="fe80::ff:fe00:102", sport=40_000, dport=53)
    return {
        "udp": build(udp, IPV4), "udp6": build(udp, IPV6), "big": build(Packet("udp", sport=40_000, dport=53, length=1400), IPV4),
        "tcp": build(Packet("tcp", sport=40_000, dport=53, options="mss 1460,sackOK,wscale 7", tos=2), IPV4),
        "icmp": build(Packet("icmp", name="echo-request", length=32), IPV4), "icmp6": build(Packet("icmp", name="echo-request", length=32), IPV6),
        "sctp": ip4(132, ports + bytes(8) + struct.pack(">BBH", 1, 0, 20) + bytes(16)),
        "dccp": ip4(33, ports + bytes((4, 0, 0, 0, 0, 0, 0, 1)) + bytes(8)),
        "esp": ip4(50, struct.pack(">II", 5, 1) + bytes(16)), "ah": ip4(51, struct.pack(">BBHII", 59, 4, 0, 5, 1) + bytes(12)),
        "ipcomp": ip4(108, struct.pack(">BBH", 59, 0, 5) + bytes(8)),
        "options": ip6(0, bytes((60, 0)) + option + bytes((17, 0)) + option + udp6),
        "routing": ip6(43, bytes((17, 2, 2, 1)) + bytes(4) + bytes(15) + b"\1" + udp6),
        "fragment6": ip6(44, struct.pack(">BBHI", 17, 0, 1, 7) + udp6),
        "mh": ip6(135, bytes((59, 0, 1, 0)) + bytes(4)),
        "eui64": ip6(17, udp6, own_link),
    }


# ---- measuring --------------------------------------------------------------------------------------------------------

class Rig:
    """An engine with one rule so many times, and batches for it."""

    def __init__(self, case: Case, copies: int):
        from nfqfw._conntrack import ConntrackTable
        from nfqfw._engine import Engine, LoadedProgram
        from nfqfw.compile import compile_rulesets
        from nfqfw.host import Host
        from nfqfw.queue._feed import Feed
        from nfqfw.rules import check, load

        self.case, self.data = case, packets()[case.packet]
        self.family = 10 if self.data[0] >> 4 == 6 else 2
        ruleset = load(text(case, copies), case.name, self.family)
        check(ruleset)
        self.loaded = LoadedProgram(compile_rulesets([ruleset], index_from=1 << 30))
        self.table = table = ConntrackTable(limit=1 << 12)
        table.set("nf_conntrack_acct", 1)
        host = Host.offline({"eth0": ["10.0.1.1/24"], "eth1": ["10.0.2.1/24"]})
        crossing = FORWARD if case.table == "nat" else case.hook        # the steps of NAT before and behind it run there too
        self.engine = Engine(table, host.block, attached=1 << crossing, ring_bytes=1 << 24)
        self.engine.load(self.loaded)
        self.crossing, self.feed, self.now, self.flows = crossing, Feed(self.engine), 10**12, 0

    def fresh(self) -> bytes:
        """The packet, IPv4 UDP, as the first of another connection; checksum 0 = none."""
        self.flows += 1
        return self.data[:20] + struct.pack(">H", 1024 + self.flows % 60_000) + self.data[22:26] + b"\0\0" + self.data[28:]

    def batch(self, measured: bool) -> int:
        """Judge a batch of packets and empty the boxes; ns of the engine if it is measured."""
        for number in range(BATCH):
            self.feed.add(self.fresh() if self.case.table == "nat" else self.data, self.crossing, id=number + 1, family=self.family, ifin=0 if self.crossing == OUTPUT else ETH0,
                          ifout=0 if self.crossing == PREROUTING else ETH1, hwaddr=bytes.fromhex("020000000102"), uid=0, gid=0)
        self.now += 100_000_000
        wall = 1_795_000_000 * 10**9 + self.now
        spent = self.feed.measure(1, 0, self.now, wall) if measured else 0
        self.feed.run(self.now, wall)
        self.feed.replies()
        self.engine.take_records()
        if self.case.table == "nat":
            self.table.flush()                      # the next batch's connections lie where these did: memory that is there
        return spent

    def measure(self, rounds: int) -> float:
        """ns per packet, median of the batches: one that another process interrupted does not count."""
        return statistics.median(self.batch(True) for _ in range(rounds)) / BATCH

    def counts(self) -> list[int]:
        """Packets that each copy of the rule has counted."""
        program, counters = self.loaded.program, self.loaded.counters_list()
        return [counters[row][0] for row, chain in enumerate(program.rule_chain)
                if program.chains[chain].table == self.case.table and program.chains[chain].chain.name == HOOKS[self.case.hook]]


def text(case: Case, copies: int) -> str:
    """The ruleset.  A chain of nat that holds none of the copies still asks for connections, so that both sides have them."""
    rules = [case.rule.format(n=n, n1=n % 2, n6=n % 64, down=1400 - n) for n in range(1, copies + 1)]
    if case.kind == DECIDES:
        rules.append("-m conntrack --ctstate NEW,ESTABLISHED" if case.table != "nat" else "-j ACCEPT")
    tables: dict[str, list[str]] = {"filter": [], case.table: []}
    tables[case.table] = [f"-A {HOOKS[case.hook]} {rule}" for rule in rules]
    out = ""
    for table, lines in tables.items():
        chains = {"raw": (PREROUTING, OUTPUT), "filter": (INPUT, FORWARD, OUTPUT), "nat": (PREROUTING, INPUT, OUTPUT, POSTROUTING)}.get(table, range(5))
        heads = [f":{HOOKS[hook]} ACCEPT [0:0]" for hook in chains]
        out += "\n".join([f"*{table}", *heads, *lines, "COMMIT", ""])
    return out


def measured(case: Case, runs: int, rounds: int) -> Figure:
    """ns of one evaluation; both chains in turn, so that what disturbs one run disturbs both."""
    repeats = 1 if case.kind == DECIDES else COPIES
    first, more = Rig(case, 1 if repeats > 1 else 0), Rig(case, 1 + COPIES if repeats > 1 else 1)
    for rig in (first, more):
        rig.measure(2)
    pairs = [(first.measure(rounds), more.measure(rounds)) for _ in range(runs)]
    return Figure.of([(long - short) / repeats for short, long in pairs])


def checks(figures: dict[str, Figure]) -> list[Check]:
    named = {name: figure.median for name, figure in figures.items() if name != NOTHING}
    return [reported(f"{name}, ns", value) if name in UNBOUNDED else at_most(f"{name}, ns", value, BOUND_NS)
            for name, value in sorted(named.items(), key=lambda item: -item[1])]


def main() -> int:
    cases = matches() + targets()
    parser = Arguments(__doc__, runs=7, quick={"runs": 3, "rounds": 4})
    parser.add_argument("--rounds", type=int, default=40, help="batches of 64 packets in a run")
    parser.add_argument("--only", nargs="*", metavar="NAME", choices=[case.name for case in cases], help="only these")
    options = parser.parse_args()
    chosen = [case for case in cases if not options.only or case.name in options.only]
    figures = {case.name: measured(case, options.runs, options.rounds) for case in chosen}
    rows = [[case.name, case.kind, figures[case.name].text(1), case.note] for case in chosen]
    bars = {kind: [(case.name, *figures[case.name][:3]) for case in chosen if case.kind == kind] for kind in (MATCH, CONTINUES, DECIDES)}
    plot = Plot("matches", "One evaluation of each match and target", Axis("ns", log=True), Axis(""), {kind: points for kind, points in bars.items() if points},
                "bars", mark=(BOUND_NS, "1 µs"))
    return report(f"One evaluation, median of {options.runs} runs of {options.rounds * BATCH:,} packets", Machine.this(),
                  ["name", "", "ns (range)", ""], rows, checks(figures),
                  {"question": "matches", "ns": {name: figure._asdict() for name, figure in figures.items()}}, options.json, [plot])


if __name__ == "__main__":
    sys.exit(main())
