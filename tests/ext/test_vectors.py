"""Every vector on our applet, and the same on the installed iptables-legacy in a namespace of its own."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest

from nfqfw.ext import registry
from nfqfw.rules import lexer
from nfqfw.rules.applet import run
from nfqfw.rules.store import MemoryStore
from tests.ext import vectors

ALL = vectors.every()
FILES = sorted({vector.file for vector in ALL})
PROGRAM = {4: "iptables", 6: "ip6tables"}


@pytest.mark.parametrize("file", FILES)
def test_ours(file):
    bad = []
    for vector in (v for v in ALL if v.file == file):
        store = MemoryStore()
        program = PROGRAM[vector.family]
        result = run([program, "-t", vector.table, "-A", vector.chain, *vector.words], store)
        listed = run([program, "-t", vector.table, "-S", vector.chain], store).stdout.splitlines()[1:]
        saved = listed[0].removeprefix(f"-A {vector.chain}").strip() if listed else None
        if vector.ok and (result.code or saved != vector.wanted):
            bad.append(f"{vector}: {vector.rule}\n   wanted {vector.wanted!r}\n   got    {saved!r} {result.stderr}")
        elif not vector.ok and (not result.code or vector.wanted not in result.stderr):
            bad.append(f"{vector}: {vector.rule}\n   wanted error {vector.wanted!r}\n   got {result.code} {saved!r} {result.stderr}")
        if vector.ok and not result.code:
            again = MemoryStore()
            if run([program, "-t", vector.table, "-A", vector.chain, *lexer.split(saved)], again).code or \
                    run([program, "-t", vector.table, "-S", vector.chain], again).stdout.splitlines()[1:] != listed:
                bad.append(f"{vector}: the saved form does not read back: {saved}")
    if bad:
        pytest.fail("\n".join(bad), pytrace=False)


@pytest.mark.netns
@pytest.mark.parametrize("file", FILES)
def test_real_tool(file, tmp_path):
    """The vectors themselves are right: iptables-legacy 1.8.9 does what they say, named differences aside."""
    if os.geteuid() or not os.path.exists("/usr/sbin/iptables-legacy"):
        pytest.skip("needs root and iptables-legacy")
    chosen = [vector for vector in ALL if vector.file == file]
    script = [f"export XTABLES_LOCKFILE={tmp_path}/lock"]
    for vector in chosen:
        tool = PROGRAM[vector.family] + "-legacy"
        words = " ".join(map(shlex.quote, vector.words))
        where = f"-t {vector.table}"
        script.append(f"{tool} {where} -A {vector.chain} {words} 2>&1 >/dev/null | head -3; echo '--'; "
                      f"{tool} {where} -S {vector.chain} | tail -n +2; {tool} {where} -F {vector.chain}; echo '=='")
    out = subprocess.run(["unshare", "-n", "bash", "-c", "\n".join(script)], capture_output=True, text=True, timeout=120).stdout
    bad = []
    for vector, text in zip(chosen, out.split("==\n"), strict=False):
        error, _, saved = text.partition("--\n")
        lines = [line.removeprefix(f"-A {vector.chain}").strip() for line in saved.splitlines()]
        if vector.old == "FAIL" or (vector.old is None and not vector.ok):
            if lines or (vector.old is None and vector.wanted not in error):
                bad.append(f"{vector}: {vector.rule}\n   wanted error {vector.wanted!r}\n   got {lines} {error}")
        elif lines != [vector.wanted if vector.old is None else vector.old]:
            bad.append(f"{vector}: {vector.rule}\n   wanted {vector.wanted!r}\n   got    {lines} {error}")
    assert len(out.split("==\n")) == len(chosen) + 1
    if bad:
        pytest.fail("\n".join(bad), pytrace=False)


def extensions():
    """(kind, name, extension) of everything the registry knows."""
    for kind, modules, find in (("m", registry.MATCH_MODULES, registry.find_match), ("t", registry.TARGET_MODULES, registry.find_target)):
        for name in sorted(modules):
            for family in (2, 10):
                found = find(name, family)
                if found is not None:
                    yield kind, name, family, found


# nothing is accepted by a kernel without the object or the module, and so not by us
NEVER_ACCEPTED = {"LED": "no such target in this kernel", "ULOG": "removed from the kernel", "CLUSTERIP": "removed from the kernel",
                  "rateest": "no estimator of that name", "set": "no set of that name", "SET": "no set of that name"}
NOT_COVERED = {"object-pinned": "no bpf file system here"}


@pytest.mark.parametrize("kind, name, family, extension", list(extensions()), ids=lambda x: str(x) if isinstance(x, (str, int)) else "")
def test_every_option_has_a_vector(kind, name, family, extension):
    """Each option stands in a line that is accepted; invertible ones also inverted; something is refused if options exist."""
    mine = [v for v in ALL if v.file == f"{name}.t" and v.family == (4 if family == 2 else 6)]
    if name in NEVER_ACCEPTED:
        assert mine and not any(v.ok for v in mine)
        return
    assert any(v.ok for v in mine), f"no accepted line in {name}.t"
    for opt in extension.opts:
        spelled = {"--" + spelling for spelling in (opt.name, *opt.aliases)}
        if opt.name in NOT_COVERED:
            continue
        uses = [v.words for v in mine if v.ok and spelled & set(v.words)]
        assert uses, f"{name}.t: --{opt.name} is not covered"
        if opt.invert:
            inverted = [w for w in uses if any(a == "!" and b in spelled for a, b in zip(w, w[1:]))]
            assert inverted, f"{name}.t: ! --{opt.name} is not covered"
    if extension.opts:
        assert any(not v.ok for v in mine), f"{name}.t has no refused line"
