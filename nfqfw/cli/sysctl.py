"""nfqfw sysctl: arguments and rendering."""

from pathlib import Path

import click

from nfqfw.cli.settings import assignment, plain_name, read_file
from nfqfw.errors import NfqfwError


@click.command(short_help="Read and set nf_conntrack_* settings.")
@click.argument("settings", nargs=-1, metavar="NAME[=VALUE]...")
@click.option("-a", "--all", "show_all", is_flag=True, help="Print every setting.")
@click.option("-w", "--write", is_flag=True, help="Set: every NAME needs a VALUE (as sysctl -w).")
@click.option("-p", "--load", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Set what a file of NAME = VALUE lines says.")
def command(settings: tuple[str, ...], show_all: bool, write: bool, load: Path | None) -> None:
    """Read and set the nf_conntrack_* settings of the daemon of this network namespace.

    Names, units and ranges are the kernel's; a leading net.netfilter. may be given.  With one value out of range none is set.
    """
    from nfqfw.daemon import manage
    changes = read_file(load) if load else {}
    changes |= dict(assignment(setting) for setting in settings if write or "=" in setting)
    values = manage.settings(changes)
    asked = [plain_name(setting.partition("=")[0]) for setting in settings]
    names = list(values) if show_all else [*(name for name in changes if name not in asked), *asked]
    for name in names:
        if name not in values:
            raise NfqfwError(f"{name}: no such setting", "nfqfw sysctl -a prints them all", 2)
        click.echo(f"net.netfilter.{name} = {values[name]}")

