"""nfqfw replay: arguments and rendering.  The replay itself is nfqfw/replay.py."""

import json
import sys
from pathlib import Path

import click

from nfqfw.cli import exits, timeouts
from nfqfw.cli.files import IPV4, IPV6, family_of, read_rules
from nfqfw.errors import NfqfwError

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(short_help="Run a pcap file through a ruleset; needs no root.")
@click.argument("rules", type=FILE)
@click.argument("capture", type=FILE)
@click.option("--rules6", type=FILE, help="IPv6 ruleset, if RULES is the IPv4 one.")
@click.option("--host", "snapshot", type=FILE, help="Snapshot of the host: its addresses, interfaces and routes choose the hooks. "
              "Without it every packet counts as forwarded.")
@click.option("--in", "ifin", default="", metavar="NAME", help="Interface by which packets arrive (default: by the snapshot's routes).")
@click.option("--out", "ifout", default="", metavar="NAME", help="Interface by which forwarded packets leave.")
@timeouts.option
@click.option("--exact", is_flag=True, help="Show the engine every hook, not only those that `run` would divert.")
@click.option("--trace", is_flag=True, help="Print every packet's walk: rules, the predicate that failed, verdict.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object per packet, then the totals.")
def command(rules: Path, capture: Path, rules6: Path | None, snapshot: Path | None, ifin: str, ifout: str, exact: bool, trace: bool,
            as_json: bool, nfct: Path | None) -> int:
    """Run a pcap or pcapng file through the same engine that filters live, and count verdicts.  No root, no traffic.

    Exit code 0: the capture was judged, whatever the verdicts; 3: the ruleset has mistakes; 2: a file cannot be read.
    """
    from nfqfw.host import Host
    from nfqfw.queue.capture import Capture, CaptureError
    from nfqfw.replay import Replay
    policies = timeouts.policies_of(nfct)
    rulesets = load(rules, rules6, policies)
    if not (snapshot or ifin or ifout) and names_interfaces(rulesets):
        click.echo("nfqfw: note: the ruleset names interfaces and the capture has none: give --host, or --in and --out", err=True)
    replay = Replay(rulesets, Host.snapshot(snapshot) if snapshot else None, (ifin, ifout), trace, exact, as_json, policies)
    try:
        with Capture(capture) as packets:
            for told in replay.run(packets):
                if as_json:
                    print(json.dumps(as_data(told)))
                else:
                    print_told(told, trace)
    except CaptureError as error:
        raise NfqfwError(error.message, error.fix, exits.USAGE) from None
    totals = replay.totals()
    if as_json:
        json.dump(totals, sys.stdout)
        print()
    else:
        from nfqfw.report.totals import text
        click.echo(f"{capture}: {sum(replay.verdicts.values())} packets: " +
                   (", ".join(f"{n} {verdict}" for verdict, n in replay.verdicts.most_common()) or "none"))
        click.echo(text(totals))
    return exits.OK


def names_interfaces(rulesets: list) -> bool:
    return any(rule.in_interface or rule.out_interface for ruleset in rulesets for table in ruleset.tables.values()
               for chain in table.chains.values() for rule in chain.rules)


def print_told(told, trace: bool) -> None:
    """LOG lines always, walks when asked for; what the kernel itself ended is told with them."""
    for kind, lines in told.lines:
        click.echo(f"{told.captured.number}: " + ("LOG " if kind == "log" else "") + "\n".join(lines))
    traced = any(kind == "trace" for kind, _ in told.lines)
    for fate in told.fates if trace else ():
        if fate.verdict not in ("ACCEPT", "DROP"):
            click.echo(f"{fate.number}: {fate.summary}: ended by the kernel at {fate.hook}: {fate.verdict}")
        elif not traced:
            click.echo(f"{fate.number}: {fate.summary}: {fate.verdict} at {fate.hook}, reason {fate.reason}")


def as_data(told) -> dict:
    item: dict = {"packet": told.captured.number, "time": told.captured.time / 1e9, "bytes": told.captured.total}
    item["fates"] = [{"packet": f.number or "reply", "summary": str(f.summary), "verdict": f.verdict, "hook": f.hook, "reason": f.reason}
                     for f in told.fates]
    for kind, lines in told.lines:
        item.setdefault(kind, []).extend(lines)
    return item


def load(rules: Path, rules6: Path | None, policies=None) -> list:
    from nfqfw import rules as language
    first = read_rules(rules)
    texts = [(rules, first, IPV4 if rules6 else family_of(rules, first))] + ([(rules6, read_rules(rules6), IPV6)] if rules6 else [])
    rulesets = [language.load(text, str(path), family) for path, text, family in texts]
    for ruleset in rulesets:
        language.check(ruleset, None, policies)
    return rulesets
