"""Time-out policies on command lines: a file of nfct commands, for rulesets that have CT --timeout."""

from collections.abc import Callable
from pathlib import Path

import click

from nfqfw.conntrack import nfct
from nfqfw.conntrack.timeouts import PolicyList


def option(command: Callable) -> Callable:
    """--nfct for a verb; it gets the path, or None, as `nfct`."""
    return click.option("--nfct", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
                        help="Time-out policies that CT --timeout may name: nfct commands, one a line.")(command)


def policies_of(path: Path | None) -> PolicyList:
    """The policies that a file's commands make; none without a file.  NfqfwError names the file, line and column of what is wrong."""
    policies = PolicyList()
    if path is not None:
        nfct.load_file(path, policies)
    return policies
