"""nfqfw status: arguments and rendering."""

import json

import click

from nfqfw.cli import exits


@click.command(short_help="Show the daemon of this network namespace.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> int:
    """Show whether a daemon runs in this network namespace, what it holds and what it has done.

    Exit code 0: it runs; 1: none runs.
    """
    from nfqfw.daemon.manage import daemon_status
    status = daemon_status()
    click.echo(json.dumps(status, indent=2) if as_json else text(status))
    return exits.OK if status["running"] else exits.NO


def text(status: dict) -> str:
    if not status["running"]:
        left = "; a killed one left its queue rules: nfqfw down removes them" if status["left_behind"] else ""
        return f"no daemon runs in this network namespace{left}"
    from nfqfw.report import totals
    daemon = status["daemon"]
    rules = {version: sum(1 for rule in status["rules"] if rule["family"] == version and "rule" in rule) for version in (4, 6)}
    hooks = f"queues {', '.join(map(str, daemon['queues']))} at {', '.join(daemon['hooks'])}" if daemon["hooks"] else "nothing attached"
    lines = [
        f"process {daemon['pid']}, up {daemon['uptime_seconds']} s{', autostarted' if daemon['autostarted'] else ''}, {daemon['socket']}",
        f"{rules[4]} IPv4 and {rules[6]} IPv6 rules, generation {daemon['generation']}; {hooks}",
    ]
    if daemon["failure"]:
        lines.append(f"a queue thread has ended, its packets are dropped: {daemon['failure']}")
    return "\n".join([*lines, totals.text(status)])
