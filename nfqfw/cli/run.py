"""nfqfw run: arguments and rendering.  The daemon in the foreground; see nfqfw/daemon/service.py."""

import json
import sys
from pathlib import Path

import click

from nfqfw.cli import exits, settings, timeouts
from nfqfw.cli.files import IPV4, IPV6, family_of, read_rules
from nfqfw.cli.root import require_root
from nfqfw.limits import QUEUES_MAX

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(short_help="Filter this network namespace by an iptables-save file until Ctrl-C.")
@click.argument("rules", type=FILE)
@click.option("--rules6", type=FILE, help="IPv6 ruleset, if RULES is the IPv4 one.")
@click.option("--queue", type=click.IntRange(0, 65535), default=0, show_default=True, help="Number of the first NFQUEUE.")
@click.option("--queues", type=click.IntRange(1, QUEUES_MAX), default=1, show_default=True, help="Queues, one thread each.")
@click.option("--transport", type=click.Choice(["nfnetlink", "netfilterqueue"]), default="nfnetlink", show_default=True,
              help="How packets are read: nfqfw's own, or the NetfilterQueue package (packets up to 3,840 bytes, no GSO).")
@click.option("--exact", is_flag=True, help="Divert every hook, not only those that the ruleset needs.")
@click.option("--trace", is_flag=True, help="Print every packet's walk: rules, the predicate that failed, verdict.")
@click.option("--check", "check_only", is_flag=True, help="Load the rules, say what is wrong, and end; needs no root.")
@click.option("--json", "as_json", is_flag=True, help="Print the totals as one JSON object at the end.")
@settings.options
@timeouts.option
def command(rules: Path, rules6: Path | None, queue: int, queues: int, transport: str, exact: bool, trace: bool, check_only: bool,
            as_json: bool, sysctl: tuple[str, ...], config: Path | None, nfct: Path | None) -> int:
    """Filter the present network namespace by RULES, an iptables-save file, until Ctrl-C or SIGTERM; then detach and print totals.

    Exit code 0: ended as told; 3: the ruleset has mistakes or asks for what this build does not evaluate; 4: this host cannot do it
    (nfqfw doctor says why); 2: a file cannot be read.  In all but the first nothing is left attached.
    """
    wanted = settings.chosen(sysctl, config)
    policies = timeouts.policies_of(nfct)
    rulesets = load(rules, rules6, policies)
    if check_only:
        click.echo(f"{rules}: ok" + (f"\n{rules6}: ok" if rules6 else ""))
        return exits.OK
    require_root("nfqfw run reads the kernel's packet queue")
    from nfqfw.daemon.service import Daemon, Options
    daemon = Daemon(rulesets.get(IPV4), rulesets.get(IPV6), Options(queue=queue, queues=queues, transport=transport, exact=exact, trace=trace,
                                                                              settings=wanted),
                    on_lines=printer(as_json), policies=nfct)
    totals = daemon.serve(lambda: click.echo(f"nfqfw: filtering by {rules}{f' and {rules6}' if rules6 else ''}; Ctrl-C ends it", err=True))
    render(totals, as_json)
    return exits.OK


def load(rules: Path, rules6: Path | None, policies=None) -> dict:
    """Checked rulesets by family; whatever a live engine would refuse is refused here, before anything is attached."""
    from nfqfw import rules as language
    from nfqfw.compile import compile_rulesets
    text = read_rules(rules)
    sources = {IPV4 if rules6 else family_of(rules, text): (rules, text)} | ({IPV6: (rules6, read_rules(rules6))} if rules6 else {})
    rulesets = {family: language.load(text, str(path), family) for family, (path, text) in sources.items()}
    for ruleset in rulesets.values():
        language.check(ruleset, None, policies)
    compile_rulesets(list(rulesets.values()))
    return rulesets


def printer(as_json: bool):
    """LOG lines go to standard error, walks of packets to standard output, unless JSON has that for itself."""
    def on_lines(kind: str, lines: list[str]) -> None:
        click.echo("\n".join(lines), err=kind == "log" or as_json)
    return on_lines


def render(totals: dict, as_json: bool) -> None:
    from nfqfw.report.totals import text
    if as_json:
        json.dump(totals, sys.stdout)
        print()
    else:
        click.echo(text(totals))
