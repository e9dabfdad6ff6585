"""A script of 512 iptables commands, by the real tool, by our shims on a live daemon, and by our shims on a state file.

Every command must exit alike and say the same, and the same rules must be there at the end.
The real tool here is 1.8.9; what 1.8.13 says otherwise (spec/iptables.md, appendix A and 3.3) is in LATER.
"""

import os
import re
import shutil

import pytest

from tests.daemon.script import TABLES, script

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("xtables-legacy-multi"),
                                                    reason="needs root and iptables-legacy")]
COMMANDS = 512
LATER = (
    ("v1.8.9", "v1.8.13"), ("Can't use -i with", "Can't use --in-interface with"), ("Can't use -o with", "Can't use --out-interface with"),
    (" -p gre", " -p 47"),
)


def as_later(text):
    for old, new in LATER:
        text = text.replace(old, new)
    return text


def run_script(namespace, path, seed, **environment):
    """(what each command said and exited with, save of each table)."""
    lines = "\n".join(f"{line} 2>&1; echo \"== $?\"" for line in script(seed, COMMANDS))
    file = f"{namespace.directory}/script"
    with open(file, "w", encoding="ascii") as out:
        out.write(lines)
    said = namespace.run("sh", file, PATH=path, **environment)
    saves = {table: namespace.run("iptables-save", "-t", table, PATH=path, **environment) for table in TABLES}
    return as_later(said).split("== "), {
        table: re.sub(r"^#.*\n|(?<=\[)\d+:\d+(?=\])", "", as_later(text), flags=re.M) for table, text in saves.items()}


def real_path(namespace):
    folder = f"{namespace.directory}/real"
    os.mkdir(folder)
    for name in ("iptables", "iptables-save"):
        os.symlink(shutil.which("xtables-legacy-multi"), f"{folder}/{name}")
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize("seed, state", [(1, False), (2, True)])
def test_same_rules_exit_codes_and_texts_as_the_real_tool(namespace, seed, state):
    said, saved = run_script(namespace, real_path(namespace), seed)
    environment = {"NFQFW_STATE": f"{namespace.directory}/state"} if state else {}
    our_said, our_saved = run_script(namespace, namespace.shims(), seed, **environment)
    commands = script(seed, COMMANDS)
    different = [(command, theirs, ours) for command, theirs, ours in zip(commands, texts(said), texts(our_said), strict=True) if theirs != ours]
    assert not different
    assert our_saved == saved
    assert (namespace.daemon_pid() is None) == state


def texts(said):
    """Per command: what it printed and its exit code, from the output between two marks."""
    codes = [part.partition("\n")[0] for part in said[1:]]
    printed = [said[0], *(part.partition("\n")[2] for part in said[1:])]
    return list(zip(codes, printed, strict=False))
