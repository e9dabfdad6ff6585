"""The program nfqfw: names, exit codes, one message per mistake."""

import os
import subprocess
import sys
import textwrap

import pytest

from nfqfw.__main__ import APPLETS
from nfqfw.cli import exits, main
from nfqfw.errors import NfqfwError, RuleError, RuleErrors, Span


def nfqfw(*argv, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "nfqfw", *argv], capture_output=True, text=True, timeout=60, **options)


def test_help_names_every_verb_and_exit_code():
    done = nfqfw("--help")
    assert done.returncode == 0
    for verb in ("demo", "run", "check", "replay", "doctor"):
        assert f"\n  {verb} " in done.stdout
    for code, meaning in exits.MEANING.items():
        assert f"{code:>3}  {meaning}" in done.stdout


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_verb_has_help_and_its_line_in_the_table(verb):
    command = main.nfqfw.get_command(None, verb)
    if command is None:
        pytest.skip("not in this build")
    assert nfqfw(verb, "--help").returncode == 0


@pytest.mark.parametrize("argv", [("nosuch",), ("check",), ("check", "--nosuch", "x"), ("check", "/nonexistent/rules.v4"), ("demo", "--duration", "x")])
def test_wrong_use_is_one_message_and_exit_2(argv):
    done = nfqfw(*argv)
    assert done.returncode == exits.USAGE
    assert "Traceback" not in done.stderr and done.stderr.strip()


ERRORS = [
    (RuleErrors([RuleError("no such chain", Span("a.v4", 3, 1, 2, "-A X"))]), exits.RULES, "a.v4:3:1: no such chain"),
    (NfqfwError("queue 0 is taken", "choose another with --queue"), exits.HOST, "fix: choose another"),
    (NfqfwError("no file", "", exits.USAGE), exits.USAGE, "no file"),
    (FileNotFoundError(2, "No such file or directory", "rules.v4"), exits.USAGE, "rules.v4: No such file"),
]


@pytest.mark.parametrize("error, code, text", ERRORS, ids=lambda x: type(x).__name__)
def test_an_error_becomes_a_message_and_an_exit_code(error, code, text, capsys):
    assert main.failure(error) == code
    assert text in capsys.readouterr().err


def test_a_bug_is_called_a_bug_and_leaves_its_traceback_in_a_file(capsys):
    try:
        {}["nothing"]
    except KeyError as error:
        assert main.failure(error) == exits.BUG
    said = capsys.readouterr().err
    path = said.split("report it with ")[1].strip()
    with open(path) as file:
        assert "KeyError" in file.read()
    os.unlink(path)


@pytest.mark.parametrize("argv", [["/shims/iptables", "-L"], ["nfqfw", "ip6tables-save", "-c"], ["nfqfw", "conntrack", "-L"]])
def test_an_applet_starts_without_click(argv):
    """The thin client is replaced by a recorder: what matters is how it is reached, and what was imported on the way."""
    script = f"""
        import sys, types
        client = types.ModuleType("nfqfw.applet_client")
        client.main = lambda name, argv: print(name, argv) or 7
        sys.modules["nfqfw.applet_client"] = client
        from nfqfw.__main__ import main
        code = main({argv!r})
        assert not {{"click", "rich", "pyroute2"}} & set(sys.modules)
        sys.exit(code)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 7, done.stderr
    name = argv[0].rpartition("/")[2] if len(argv) == 2 else argv[1]
    assert done.stdout.strip() == f"{name} {argv[1:] if len(argv) == 2 else argv[2:]}"


def test_applet_names_are_those_of_the_real_tools():
    assert {"iptables", "ip6tables-save", "iptables-legacy-restore", "xtables-legacy-multi", "conntrack", "nfct"} <= APPLETS
    assert len(APPLETS) == 2 * 2 * 3 + 3
