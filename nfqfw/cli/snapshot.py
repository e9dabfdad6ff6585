"""nfqfw snapshot: arguments and rendering.  The facts and their file are nfqfw/host.py."""

from pathlib import Path

import click

from nfqfw.cli import exits
from nfqfw.errors import NfqfwError


@click.command(short_help="Write this namespace's interfaces, addresses and routes to a file.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def command(file: Path) -> int:
    """Write what rules ask the kernel for (interfaces, addresses, routes, a few sysctls) to FILE, for `nfqfw replay --host FILE` on any
    machine.  Needs no root.
    """
    from nfqfw.host import Host
    with Host.live() as host:
        try:
            host.save(file)
        except OSError as error:
            raise NfqfwError(f"{file}: {error.strerror}", "give a file that can be written", exits.USAGE) from None
        facts = host.facts
    click.echo(f"{file}: {len(facts.interfaces)} interfaces, {len(facts.addresses)} addresses, {len(facts.routes)} routes")
    return exits.OK
