"""nfqfw sysctl: arguments and rendering."""

import click

from nfqfw.errors import NfqfwError


@click.command(short_help="Read and set nf_conntrack_* settings.")
@click.argument("settings", nargs=-1, metavar="NAME[=VALUE]...")
@click.option("-a", "--all", "show_all", is_flag=True, help="Print every setting.")
@click.option("-w", "--write", is_flag=True, help="Set: every NAME needs a VALUE (as sysctl -w).")
def command(settings: tuple[str, ...], show_all: bool, write: bool) -> None:
    """Read and set the nf_conntrack_* settings of the daemon of this network namespace.

    Names, units and ranges are the kernel's; a leading net.netfilter. may be given.  With one value out of range none is set.
    """
    from nfqfw.daemon import manage
    pairs = [setting.replace("net.netfilter.", "", 1).replace("net/netfilter/", "", 1).partition("=") for setting in settings]
    changes = {name.strip(): number(name, value) for name, equals, value in pairs if equals or write}
    values = manage.settings(changes)
    names = list(values) if show_all else [name.strip() for name, _, _ in pairs]
    for name in names:
        if name not in values:
            raise NfqfwError(f"{name}: no such setting", "nfqfw sysctl -a prints them all", 2)
        click.echo(f"net.netfilter.{name} = {values[name]}")


def number(name: str, value: str) -> int:
    try:
        return int(value, 0)
    except ValueError:
        raise NfqfwError(f"{name}: {value!r} is not a number", "give NAME=NUMBER", 2) from None
