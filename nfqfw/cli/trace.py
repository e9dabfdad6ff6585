"""nfqfw trace: arguments and rendering.  One packet through nfqfw/testing.py."""

import json
import time
from pathlib import Path

import click

from nfqfw.cli import exits, timeouts
from nfqfw.cli.files import IPV4, read_rules

FILE = click.Path(dir_okay=False, path_type=Path)
PROTOCOLS = ("tcp", "udp", "icmp", "sctp", "udplite", "gre")


@click.command(short_help="Explain what a ruleset does with one packet; needs no root.")
@click.argument("rules", type=FILE)
@click.argument("protocol", type=click.Choice(PROTOCOLS))
@click.argument("source", metavar="SOURCE[:PORT]")
@click.argument("destination", metavar="DESTINATION[:PORT]")
@click.option("--host", "snapshot", type=FILE, help="Snapshot of the host (nfqfw snapshot): it chooses hooks and interfaces.  Without it "
              "the packet is forwarded.")
@click.option("--in", "ifin", default="", metavar="NAME", help="Interface by which it arrives.")
@click.option("--out", "ifout", default="", metavar="NAME", help="Interface by which it leaves.")
@click.option("--flags", default="S", show_default=True, metavar="LETTERS", help="TCP flags: S F R P . (ACK) U E W, - for none.")
@click.option("--type", default="echo-request", show_default=True, metavar="TYPE[/CODE]", help="ICMP type: a number or echo-request, "
              "echo-reply, unreachable, ...")
@click.option("--length", type=click.IntRange(0, 60_000), default=0, show_default=True, help="Bytes of payload.")
@click.option("--ttl", type=click.IntRange(0, 255), default=64, show_default=True, help="TTL or hop limit.")
@click.option("--tos", type=click.IntRange(0, 255), default=0, show_default=True, help="TOS or traffic class.")
@timeouts.option
@click.option("--expect", type=click.Choice(["ACCEPT", "DROP"]), help="Exit with 1 if the verdict is another.")
@click.option("--exact", is_flag=True, help="Show the engine every hook, not only those that `run` would divert.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(rules: Path, protocol: str, source: str, destination: str, snapshot: Path | None, ifin: str, ifout: str, exact: bool,
            expect: str | None, as_json: bool, nfct: Path | None, **fields) -> int:
    """Send one packet through the ruleset, in the same engine that filters live, and print its walk: rules, the predicate that failed,
    verdict.  For example:

        nfqfw trace RULES.v4 tcp 10.0.1.2 10.0.2.2:22 --in eth0 --out eth1

    Exit code 0: judged; 1: not the verdict of --expect; 3: the ruleset has mistakes; 2: a file cannot be read.
    """
    from nfqfw.host import Host
    from nfqfw.testing import End, Firewall, packet
    read_rules(rules)                                   # says what is wrong with the file itself
    try:
        family = End(source).family
        data = packet(protocol, source, destination, **fields)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    firewall = Firewall(*((rules, None) if family == IPV4 else (None, rules)), host=Host.snapshot(snapshot) if snapshot else None,
                        ifin=ifin, ifout=ifout, exact=exact, as_data=as_json, start_ns=time.time_ns(), timeouts=nfct)
    outcome = firewall.send_bytes(data)
    if as_json:
        print(json.dumps({"verdict": outcome.verdict, "reason": outcome.reason, "trace": outcome.walk, "log": outcome.log,
                          "replies": list(map(str, outcome.replies))}))
    else:
        render(outcome)
    return exits.NO if expect and outcome.verdict != expect else exits.OK


def render(outcome) -> None:
    for line in outcome.log:
        click.echo("LOG " + line)
    for line in outcome.walk:
        click.echo(line)
    for reply in outcome.replies:
        click.echo(f"answered with: {reply}")
    click.echo(outcome.verdict + (f" ({outcome.reason})" if outcome.reason not in ("none", "rejected") else ""))
