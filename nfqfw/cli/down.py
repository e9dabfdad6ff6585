"""nfqfw down: arguments and rendering."""

import click


@click.command(short_help="Stop the daemon of this network namespace, and remove what a killed run left behind.")
def command() -> None:
    """Detach and end the daemon of this network namespace; where a killed one left its queue rules, remove those.

    Removing our table drops the packets that wait in the queues of other programs of this namespace (the kernel does that).
    """
    from nfqfw.daemon.manage import end_daemon
    click.echo(end_daemon())
