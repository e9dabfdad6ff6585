"""nfqfw up: arguments and rendering."""

from pathlib import Path

import click

from nfqfw.cli import settings, timeouts
from nfqfw.limits import QUEUES_MAX


@click.command(short_help="Start the daemon of this network namespace.")
@click.argument("rules", required=False, metavar="[RULES.v4]", type=click.Path(exists=True, dir_okay=False))
@click.option("--rules6", type=click.Path(exists=True, dir_okay=False), help="IPv6 ruleset.")
@click.option("-b", "--background", is_flag=True, help="Return once the daemon serves, and is attached if it has rules.")
@click.option("--queue", type=click.IntRange(0, 65535), default=0, show_default=True, help="First NFQUEUE number.")
@click.option("--queues", type=click.IntRange(1, QUEUES_MAX), default=1, show_default=True, help="Queues, one thread each.")
@click.option("--exact", is_flag=True, help="Attach every hook, whatever the rules need.")
@settings.options
@timeouts.option
def command(rules: str | None, rules6: str | None, background: bool, queue: int, queues: int, exact: bool, sysctl: tuple[str, ...],
            config: Path | None, nfct: Path | None) -> None:
    """Start the daemon of this network namespace, with the rulesets given, or empty.

    nfqfw iptables, ip6tables, -save and -restore then read and change its rules.  Without -b it stays in the foreground
    until Ctrl-C.
    """
    from nfqfw.daemon.manage import run_in_foreground, start_in_background
    options = {"queue": queue, "queues": queues, "exact": exact, "settings": settings.chosen(sysctl, config)}
    timeouts.policies_of(nfct)                          # says what is wrong with the file before anything starts
    (start_in_background if background else run_in_foreground)(rules, rules6, options, nfct)
