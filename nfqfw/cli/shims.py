"""nfqfw shims: arguments and rendering."""

import click


@click.command(short_help="Write a folder of iptables program names that talk to nfqfw.")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
def command(directory: str) -> None:
    """Write DIR with iptables, ip6tables, their -save, -restore and -legacy forms, conntrack and nfct.

    With PATH=DIR:$PATH, scripts that call these programs talk to the nfqfw of their network namespace.
    """
    from nfqfw.daemon.shims import write_shims
    names = write_shims(directory)
    click.echo(f"{len(names)} programs in {directory}; use them with  PATH={directory}:$PATH")
