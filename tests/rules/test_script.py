"""A script of 512 mixed commands leaves the same rules, prints the same errors and exits with the same codes as the real tool."""

from __future__ import annotations

import re

import pytest

from nfqfw.rules.applet import run
from nfqfw.rules.lexer import split
from nfqfw.rules.store import FileStore, MemoryStore
from tests.rules import gen, real


def modern(error: str) -> str:
    """Texts of 1.8.9 as 1.8.13 has them."""
    error = error.replace("v1.8.9", "v1.8.13")
    return re.sub(r"Can't use -([io]) with", lambda m: f"Can't use --{'in' if m[1] == 'i' else 'out'}-interface with", error)


@real.needs_tool
@pytest.mark.netns
@pytest.mark.parametrize("seed, kind", [(11, "memory"), (12, "memory"), (13, "memory"), (14, "file")])
def test_script_of_512_commands(seed, kind, tmp_path):
    commands = gen.script(seed)
    script = "".join(f"iptables-legacy {command} 2>&1; echo \"==$?\"\n" for command in commands) + "iptables-legacy-save -t filter"
    out = real.shell(script, tmp_path / "lock").stdout
    *answers, saved = re.split(r"(?<===)(?:\d+)\n", out)
    codes = re.findall(r"==(\d+)\n", out)
    store = MemoryStore() if kind == "memory" else FileStore(str(tmp_path / "state"))
    refused = 0
    for command, answer, code in zip(commands, answers, codes, strict=True):
        result = run(["iptables", *split(command)], store)
        refused += result.code != 0
        assert (result.code, result.stdout + result.stderr) == (int(code), modern(answer.removesuffix("=="))), command
    assert 20 < refused < 400, "the script should try mistakes too, but not only"
    ours = run(["iptables-save", "-t", "filter"], store).stdout
    assert real.without_stamps(ours) == real.without_stamps(saved)
