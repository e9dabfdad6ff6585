"""nfqfw trace: arguments and rendering.  One packet through the engine of nfqfw/replay.py."""

import ipaddress
import json
import time
from pathlib import Path

import click

from nfqfw.cli import exits
from nfqfw.cli.files import IPV4, IPV6, read_rules

FILE = click.Path(dir_okay=False, path_type=Path)
PROTOCOLS = ("tcp", "udp", "icmp", "sctp", "udplite", "gre")
NEEDS_PORT = ("tcp", "udp", "sctp", "udplite")
CLIENT_PORT = 40000             # source port when none is given


class End(click.ParamType):
    """ADDRESS, ADDRESS:PORT, or [ADDRESS]:PORT for IPv6."""
    name = "address[:port]"

    def convert(self, value, param, ctx):
        host, port = value, ""
        if value.startswith("["):
            host, _, port = value[1:].partition("]")
            port = port.removeprefix(":")
        elif value.count(":") == 1:
            host, _, port = value.partition(":")
        try:
            address = ipaddress.ip_address(host)
            number = int(port) if port else 0
        except ValueError:
            self.fail(f"{value!r} is no address or address:port (IPv6 with port: [address]:port)", param, ctx)
        if not 0 <= number <= 65535:
            self.fail(f"port {number} is not in 0..65535", param, ctx)
        return address, number


@click.command(short_help="Explain what a ruleset does with one packet; needs no root.")
@click.argument("rules", type=FILE)
@click.argument("protocol", type=click.Choice(PROTOCOLS))
@click.argument("source", type=End())
@click.argument("destination", type=End())
@click.option("--host", "snapshot", type=FILE, help="Snapshot of the host (nfqfw snapshot): it chooses hooks and interfaces.  Without it "
              "the packet is forwarded.")
@click.option("--in", "ifin", default="", metavar="NAME", help="Interface by which it arrives.")
@click.option("--out", "ifout", default="", metavar="NAME", help="Interface by which it leaves.")
@click.option("--flags", default="S", show_default=True, metavar="LETTERS", help="TCP flags: S F R P . (ACK) U E W, - for none.")
@click.option("--type", "kind", default="echo-request", show_default=True, metavar="TYPE[/CODE]", help="ICMP type: a number or echo-request, "
              "echo-reply, unreachable, ...")
@click.option("--length", type=click.IntRange(0, 60_000), default=0, show_default=True, help="Bytes of payload.")
@click.option("--ttl", type=click.IntRange(0, 255), default=64, show_default=True, help="TTL or hop limit.")
@click.option("--tos", type=click.IntRange(0, 255), default=0, show_default=True, help="TOS or traffic class.")
@click.option("--expect", type=click.Choice(["ACCEPT", "DROP"]), help="Exit with 1 if the verdict is another.")
@click.option("--exact", is_flag=True, help="Show the engine every hook, not only those that `run` would divert.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(rules: Path, protocol: str, source: tuple, destination: tuple, snapshot: Path | None, ifin: str, ifout: str, exact: bool,
            expect: str | None, as_json: bool, **fields) -> int:
    """Send one packet through the ruleset, in the same engine that filters live, and print its walk: rules, the predicate that failed,
    verdict.  For example:

        nfqfw trace RULES.v4 tcp 10.0.1.2 10.0.2.2:22 --in eth0 --out eth1

    Exit code 0: judged; 1: not the verdict of --expect; 3: the ruleset has mistakes; 2: a file cannot be read.
    """
    from nfqfw import rules as language
    from nfqfw.host import Host
    from nfqfw.queue.capture import Captured
    from nfqfw.replay import Replay
    data = packet(protocol, source, destination, **fields)
    family = IPV4 if source[0].version == 4 else IPV6
    ruleset = language.load(read_rules(rules), str(rules), family)
    language.check(ruleset)
    replay = Replay([ruleset], Host.snapshot(snapshot) if snapshot else None, (ifin, ifout), True, exact, as_json)
    (told,) = replay.run([Captured(1, time.time_ns(), data, len(data), "", b"")])
    verdict = next((fate.verdict for fate in told.fates if fate.number), "HELD")
    if as_json:
        print(json.dumps({"verdict": verdict} | {kind: [item for k, items in told.lines if k == kind for item in items] for kind in ("trace", "log")}))
    else:
        render(told, verdict)
    return exits.NO if expect and verdict != expect else exits.OK


def packet(protocol: str, source: tuple, destination: tuple, flags: str, kind: str, length: int, ttl: int, tos: int) -> bytes:
    """Wire bytes, checksums right."""
    from nfqfw.selftest.packets import ICMP_NAMES, TCP_FLAGS, Packet, build
    if source[0].version != destination[0].version:
        raise click.UsageError(f"{source[0]} and {destination[0]} are of different IP versions")
    if protocol in NEEDS_PORT and not destination[1]:
        raise click.UsageError(f"{protocol} needs a port: {destination[0]}:PORT")
    if set(flags) - set(TCP_FLAGS) - {"-"}:
        raise click.UsageError(f"--flags {flags}: letters of {''.join(TCP_FLAGS)}, or -")
    name, _, code = kind.partition("/")
    if not name.isdigit() and name not in ICMP_NAMES or code and not code.isdigit():
        raise click.UsageError(f"--type {kind}: a number, or one of {', '.join(ICMP_NAMES)}")
    p = Packet(protocol, str(source[0]), str(destination[0]), source[1] or CLIENT_PORT, destination[1], flags=flags.replace("-", ""),
               ident=1, number=1, length=length, ttl=ttl, tos=tos, code=int(code or 0))
    p.name, p.kind = ("", int(name)) if name.isdigit() else (name, 0)
    return build(p, IPV4 if source[0].version == 4 else IPV6)


def render(told, verdict: str) -> None:
    for kind, lines in told.lines:
        click.echo(("LOG " if kind == "log" else "") + "\n".join(lines))
    for fate in told.fates:
        if fate.number and (fate.verdict not in ("ACCEPT", "DROP") or not told.lines):
            click.echo(f"{fate.summary}: {fate.verdict} at {fate.hook}, reason {fate.reason}")
        elif not fate.number:
            click.echo(f"answered with: {fate.summary}")
    click.echo(verdict)
