"""The verbs of nfqfw: their names, and what becomes of an exception.

Each verb is one file of this folder with a click command named `command`; it is imported when it is called, so that
`nfqfw --help` and every other verb start without it.  A user's mistake ends in one message and its fix, never in a
traceback; anything else that escapes is a bug in us, and its traceback goes to a file that the message names.
"""

import importlib
import os
import sys

import click

from nfqfw import __version__
from nfqfw.cli import exits

# verb -> one line of help; the file is the verb's name.  Order is the order of --help.
VERBS = {
    "demo": "Show nfqfw filtering real traffic between three namespaces.",
    "run": "Filter this network namespace by an iptables-save file until Ctrl-C.",
    "check": "Report every mistake of iptables-save files.",
    "replay": "Run a pcap file through a ruleset; needs no root.",
    "trace": "Explain what a ruleset does with one packet; needs no root.",
    "snapshot": "Write this namespace's interfaces, addresses and routes to a file, for replay.",
    "doctor": "Say whether this host can run nfqfw, and what to fix.",
    "up": "Start the daemon of this network namespace.",
    "down": "Stop it, and remove what a killed run left behind.",
    "status": "Show the daemon of this namespace: rules, connections, drops by reason.",
    "shims": "Write a folder of iptables program names that talk to nfqfw.",
    "sysctl": "Read and set nf_conntrack_* settings.",
    "selftest": "Compare nfqfw with the kernel of this machine on random cases.",
}
HELP = f"""Netfilter in userspace: iptables rulesets, evaluated, explained and tested.

Also: nfqfw iptables|ip6tables[-save|-restore] ... nfqfw conntrack ... and nfqfw nfct ... behave as the tools of these names.

\b
Exit codes:
{exits.table()}
"""


class Verbs(click.Group):
    """A group that imports a verb when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        here = os.path.dirname(__file__)
        return [verb for verb in VERBS if os.path.exists(os.path.join(here, f"{verb}.py"))]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        return importlib.import_module(f"nfqfw.cli.{name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, VERBS[verb]) for verb in self.list_commands(ctx)])


@click.group(cls=Verbs, help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, "-V", "--version", message="nfqfw %(version)s")
def nfqfw() -> None:
    pass


def main(argv: list[str]) -> int:
    """Exit code of one command line (without the program's name)."""
    try:
        return nfqfw.main(argv, prog_name="nfqfw", standalone_mode=False) or exits.OK
    except click.ClickException as error:
        error.show()
        return exits.USAGE
    except (KeyboardInterrupt, click.Abort):
        return _say(exits.INTERRUPTED, "interrupted")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())      # a reader such as head went away: no second error at exit
        return exits.OK
    except Exception as error:
        return failure(error)


def failure(error: Exception) -> int:
    """Tell the user what went wrong and return the exit code that stands for it."""
    from nfqfw.errors import NfqfwError, RuleError, RuleErrors
    if isinstance(error, (RuleError, RuleErrors)):
        return _say(exits.RULES, str(error))
    if isinstance(error, NfqfwError):
        return _say(error.code if error.code in exits.MEANING and error.code > exits.NO else exits.HOST, error.message, error.fix)
    if isinstance(error, PermissionError) and os.geteuid() != 0 and not error.filename:
        return _say(exits.HOST, "this needs root (CAP_NET_ADMIN)", "run it with sudo, or as root")
    if isinstance(error, OSError) and error.filename:
        return _say(exits.USAGE, f"{error.filename}: {error.strerror}")
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("nfqfw."):
        return _say(exits.HOST, f"the compiled part of nfqfw is missing ({error.name})", "make build, in the checkout")
    return _bug(error)


def _say(code: int, message: str, fix: str = "") -> int:
    click.echo(f"nfqfw: {message}", err=True)
    if fix:
        click.echo(f"nfqfw: fix: {fix}", err=True)
    return code


def _bug(error: Exception) -> int:
    import tempfile
    import traceback
    with tempfile.NamedTemporaryFile("w", prefix="nfqfw-bug-", suffix=".txt", delete=False) as file:
        traceback.print_exception(error, file=file)
    return _say(exits.BUG, f"bug: {type(error).__name__}: {error}", f"please report it with {file.name}")
