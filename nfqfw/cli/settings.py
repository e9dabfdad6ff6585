"""nf_conntrack_* settings on command lines and in files: NAME=VALUE, and the lines of sysctl.conf.

All mistakes are found before anything is changed or attached: unknown names, read-only ones, values out of range.
"""

from collections.abc import Callable
from pathlib import Path

import click

from nfqfw.cli import exits
from nfqfw.conntrack import tunables
from nfqfw.errors import NfqfwError
from nfqfw.files import read_bytes
from nfqfw.limits import SETTINGS_FILE_BYTES

READ_ONLY = ("nf_conntrack_count", "nf_conntrack_buckets")


def options(command: Callable) -> Callable:
    """--sysctl and --config for a verb that starts a daemon; it gets them as `sysctl` and `config`."""
    command = click.option("--sysctl", multiple=True, metavar="NAME=VALUE", help="Set a nf_conntrack_* setting; may be given several times.")(command)
    return click.option("--config", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
                        help="Set what a file of NAME = VALUE lines says, as sysctl.conf.")(command)


def chosen(sysctl: tuple[str, ...], config: Path | None) -> dict[str, int]:
    """The settings that both options ask for; the command line comes last.  NfqfwError names what is wrong and where."""
    out = read_file(config) if config else {}
    for text in sysctl:
        name, value = assignment(text)
        out[name] = value
    return out


def assignment(text: str) -> tuple[str, int]:
    """`NAME=VALUE`, checked; a leading net.netfilter. may be given."""
    name, equals, value = text.partition("=")
    name = plain_name(name)
    if not equals:
        raise NfqfwError(f"{name}: no value", "give NAME=NUMBER", exits.USAGE)
    return name, checked(name, number(name, value))


def plain_name(text: str) -> str:
    """A setting's name without what sysctl puts in front; net/netfilter/ is the same as net.netfilter."""
    return text.strip().replace("/", ".").removeprefix("net.netfilter.")


def number(name: str, value: str) -> int:
    try:
        return int(value, 0)
    except ValueError:
        raise NfqfwError(f"{name}: {value.strip()!r} is not a number", "give NAME=NUMBER", exits.USAGE) from None


def checked(name: str, value: int) -> int:
    if name in READ_ONLY:
        raise NfqfwError(f"{name}: read-only", "nfqfw sysctl -a prints it", exits.USAGE)
    try:
        tunables.check(name, value)
    except ValueError as error:
        raise NfqfwError(str(error), "nfqfw sysctl -a prints every name and value", exits.USAGE) from None
    return value


def read_file(path: Path) -> dict[str, int]:
    """Settings of a file: `NAME = VALUE` lines; # and ; begin comments.  The error names file, line and column."""
    data = read_bytes(path, SETTINGS_FILE_BYTES, "a file", "keep only nf_conntrack_* settings in it")
    out = {}
    for line_number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        words = line.strip()
        if not words or words[0] in "#;":
            continue
        try:
            name, value = assignment(words)
        except NfqfwError as error:
            raise NfqfwError(f"{path}:{line_number}:{column(line)}: {error}", error.fix, exits.USAGE) from None
        out[name] = value
    return out


def column(line: str) -> int:
    """Where the value stands, or the name if there is no value; from 1."""
    before, equals, after = line.partition("=")
    return len(before) + 2 + len(after) - len(after.lstrip()) if equals else len(line) - len(line.lstrip()) + 1
