"""nfqfw doctor: arguments and rendering.  The checks are nfqfw/doctor.py."""

import json
import sys

import click

from nfqfw.cli import exits
from nfqfw.limits import QUEUES_MAX

MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


@click.command(short_help="Say whether this host can run nfqfw, and what to fix.")
@click.option("--queue", type=click.IntRange(0, 65535), default=0, show_default=True, help="Number of the first NFQUEUE to look at.")
@click.option("--queues", type=click.IntRange(1, QUEUES_MAX), default=1, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print the checks as one JSON object.")
def command(queue: int, queues: int, as_json: bool) -> int:
    """Check this host and this network namespace, one line each, with the fix where something is wrong.

    Exit code 0: nfqfw can run (perhaps with warnings); 1: something must be fixed first.
    """
    from nfqfw.doctor import FAIL, examine, worst
    checks = examine(queue, queues)
    gravest = worst(checks)
    if as_json:
        json.dump({"status": gravest, "checks": [check._asdict() for check in checks]}, sys.stdout, indent=2)
        print()
    else:
        for check in checks:
            word, colour = MARKS[check.status]
            click.echo(f"{click.style(word, fg=colour)}  {check.name}: {check.message}")
            if check.fix:
                click.echo(f"      fix: {check.fix}")
    return exits.NO if gravest == FAIL else exits.OK
