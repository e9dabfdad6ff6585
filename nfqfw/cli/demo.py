"""nfqfw demo: arguments, and the report for people or machines.  The demo itself is nfqfw/demo/."""

import json
import os
import re
import shutil
import sys

import click

from nfqfw.cli import exits

CONNECTIONS_SHOWN = 12
COMMENT = re.compile(r' -m comment --comment ("[^"]*"|\S+)')


@click.command(short_help="Show nfqfw filtering real traffic between three namespaces.")
@click.option("--duration", type=click.FloatRange(0, 3600), default=0, metavar="SECONDS", help="Go on asking for this long; the default is one round.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option("--keep", is_flag=True, help="Keep the three namespaces, by name, for a look around.")
@click.pass_context
def command(ctx: click.Context, duration: float, as_json: bool, keep: bool) -> int:
    """Three namespaces (client - firewall - server), `nfqfw run` in the firewall with the packaged rulesets, and real traffic.

    Exit code 0: every expectation was observed; 1: one was not; 4: this host cannot run it (see nfqfw doctor).
    """
    from nfqfw.demo import show
    from nfqfw.cli.root import require_root
    require_root("nfqfw demo makes network namespaces")
    result = show.run(duration, keep, progress=lambda text: None if as_json else click.echo(f"nfqfw demo: {text}", err=True))
    if as_json:
        json.dump(as_data(result), sys.stdout, indent=2)
        print()
    else:
        render(result)
    return exits.OK if result.ok else exits.NO


def as_data(result) -> dict:
    expectations = [
        {"name": e.name, "family": e.family, "from": e.asker, "to": e.asked, "expected": e.expected, "observed": o.observed, "ok": o.ok,
         "verdict": e.verdict, "rule": e.rule or "policy of FORWARD", "rounds": len(o.seen)}
        for o in result.observations for e in (o.expectation,)]
    return {"ok": result.ok, "rounds": result.rounds, "seconds": round(result.seconds, 2), "expectations": expectations,
            "namespaces": result.namespaces, "totals": result.totals}


def render(result) -> None:
    from rich.console import Console
    console = Console(highlight=False)
    console.print(expectation_table(result))
    console.print(rule_table(result.totals["rules"]))
    connections = result.totals.get("connections", [])
    if connections:
        console.print(f"\n[bold]Connections[/bold] at the end: {len(connections)}" +
                      (f", the first {CONNECTIONS_SHOWN}" if len(connections) > CONNECTIONS_SHOWN else ""))
        for line in connections[:CONNECTIONS_SHOWN]:
            console.print("  " + line.strip(), markup=False, soft_wrap=True)
    missed = sum(not o.ok for o in result.observations)
    console.print()
    if missed:
        console.print(f"[bold red]{missed} of {len(result.observations)} expectations were not observed[/bold red] ({result.seconds:.1f} s)")
    else:
        console.print(f"[bold green]all {len(result.observations)} expectations observed[/bold green], {result.rounds} round(s), {result.seconds:.1f} s")
    console.print(next_steps(result), markup=False, soft_wrap=True)


def expectation_table(result):
    from rich.table import Table
    table = Table(title="What the client and the server saw", title_justify="left", title_style="bold", box=None, padding=(0, 1))
    for heading in ("", "IP", "from", "question", "observed", "because"):
        table.add_column(heading, overflow="fold")
    for o in result.observations:
        e = o.expectation
        mark = "[green]ok[/green]" if o.ok else "[bold red]NO[/bold red]"
        because = f"{e.verdict} # {e.rule}" if e.rule else f"{e.verdict} policy"
        observed = o.observed if o.ok else f"[red]{o.observed}[/red], not {e.expected}"
        table.add_row(mark, f"v{e.family}", e.asker, e.name, observed, because)
    return table


def rule_table(rules: list[dict]):
    """Rules and policies that packets met, in the order of the file; the others are counted in the title."""
    from rich.markup import escape
    from rich.table import Table
    hit = [rule for rule in rules if rule["packets"]]
    table = Table(title=f"\nRules that packets met ({len(rules) - len(hit)} others met none)", title_justify="left", title_style="bold",
                  box=None, padding=(0, 1))
    table.add_column("IP")
    table.add_column("packets", justify="right")
    table.add_column("bytes", justify="right")
    table.add_column("chain")
    table.add_column("rule", overflow="fold")
    for rule in hit:
        text = f"policy {rule['policy']}" if "policy" in rule else comment_last(rule["rule"])
        table.add_row(f"v{rule['family']}", str(rule["packets"]), str(rule["bytes"]), rule["chain"], escape(text))
    return table


def comment_last(rule: str) -> str:
    """The rule with its comment behind it instead of inside, which is easier to read in a table."""
    found = COMMENT.search(rule)
    return f"{rule[:found.start()]}{rule[found.end():]}   # {found[1].strip(chr(34))}" if found else rule


def next_steps(result) -> str:
    """Commands that work as they stand: with the program and the ruleset as they can be reached from here."""
    from nfqfw.demo.show import ruleset
    program = "nfqfw" if shutil.which("nfqfw") else shortest(sys.argv[0])
    path = shortest(str(ruleset(4)))
    rows = [(f"{program} trace {path} tcp 10.0.1.2 10.0.2.2:22 --in eth0 --out eth1", "why is this packet dropped? needs no root"),
            (f"{program} check {path}", "the demo's ruleset; edit a copy, and see what check says"),
            (f"{program} replay RULES.v4 FILE.pcap --trace", "the same questions to a capture"),
            (f"{program} run RULES.v4", "filter this namespace (reached over the network? try it in another one first)")]
    if result.namespaces:
        rows += [(f"ip netns exec {result.namespaces[1]} {program} run {path} &", "nfqfw again, in the kept firewall"),
                 (f"ip netns exec {result.namespaces[0]} ping -c 1 10.0.2.2", "from the kept client"),
                 ("ip netns del NAME", "for each of " + " ".join(result.namespaces))]
    return "\nWhat to try next:\n" + "\n".join(f"  {command}\n      {what}" for command, what in rows)


def shortest(path: str) -> str:
    """The path, or the path from here if that is shorter."""
    return min(os.path.relpath(path), path, key=len)
