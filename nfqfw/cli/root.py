"""Verbs that need root say so before they touch anything."""

import os

from nfqfw.cli import exits
from nfqfw.errors import NfqfwError


def require_root(what: str) -> None:
    """Raises NfqfwError unless this process is root; `what` says why it must be ("nfqfw run reads a packet queue")."""
    if os.geteuid() != 0:
        raise NfqfwError(f"{what}: that needs root", "run it with sudo, or as root", exits.HOST)
