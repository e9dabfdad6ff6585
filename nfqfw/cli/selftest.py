"""nfqfw selftest: arguments and rendering.  The twins, the generator and the comparison are nfqfw/selftest/."""

import itertools
import json
import random
import shutil
import sys
from pathlib import Path

import click

from nfqfw.cli import exits
from nfqfw.cli.root import require_root
from nfqfw.errors import NfqfwError

UNSUPPORTED = Path(__file__).parents[2] / "tests" / "oracle" / "unsupported.toml"      # of a checkout: what the engine cannot do yet
DIFFERENCES_SHOWN = 10
TOOLS = {"iptables-legacy-restore": "iptables", "nft": "nftables", "nfct": "nfct", "ip": "iproute2"}     # and their Debian packages


@click.command(short_help="Compare nfqfw with the kernel of this machine on random cases.")
@click.option("--seconds", type=click.FloatRange(1, 86_400), default=20, show_default=True, help="How long.")
@click.option("--seed", type=click.IntRange(min=0), default=None, help="First seed; a seed makes the same case again.  [default: random]")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(seconds: float, seed: int | None, as_json: bool) -> int:
    """Random rulesets and packets, judged by the kernel's iptables in one throw-away namespace and by nfqfw: both must agree on what
    leaves, on every counter and on every connection.

    Exit code 0: no difference; 1: differences, each with the seed that shows it; 4: this host cannot run it.
    """
    require_root("nfqfw selftest makes network namespaces")
    for tool, package in TOOLS.items():
        if not shutil.which(tool):
            raise NfqfwError(f"nfqfw selftest asks the kernel with {tool}, which is not installed", f"apt-get install {package}")
    from nfqfw.selftest.generate import active_features
    from nfqfw.selftest.lanes import both
    first = random.SystemRandom().randrange(10**9) if seed is None else seed
    if not as_json:
        click.echo(f"nfqfw selftest: seeds from {first}, {seconds:g} seconds", err=True)
    report = both(itertools.count(first), active_features(UNSUPPORTED if UNSUPPORTED.exists() else None), seconds)
    if as_json:
        json.dump({"ok": not report.different, "seed": first, "cases": report.cases, "packets": report.packets,
                   "seconds": round(report.seconds, 1), "differences": report.different, "undecided": report.undecided}, sys.stdout)
        print()
    else:
        for number, lines in itertools.islice(report.different.items(), DIFFERENCES_SHOWN):
            click.echo(f"seed {number}:\n    " + "\n    ".join(lines[:6]))
        click.echo(report.summary())
    return exits.NO if report.different else exits.OK
