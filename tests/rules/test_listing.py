"""-L in its forms, -S and -save -c of five large mixed rulesets: byte for byte the real tool's."""

from __future__ import annotations

import pytest

from nfqfw.rules.applet import run
from nfqfw.rules.store import MemoryStore
from tests.rules import gen, real

FORMS = ("-L -n -v -x --line-numbers", "-L -n -v", "-L -n", "-L", "-L -v", "-S", "-S -v", "-L -n --line-numbers -x", "-L INPUT 3 -n -v", "-L OUTPUT -n",
         "-S OUTPUT 2 -v")


def loaded(text: str, family: int) -> MemoryStore:
    store = MemoryStore()
    result = run(["iptables-restore" if family == 4 else "ip6tables-restore", "-c"], store, text)
    assert (result.code, result.stderr) == (0, "")
    return store


@real.needs_tool
@pytest.mark.netns
@pytest.mark.parametrize("seed, family", [(1, 4), (2, 4), (3, 4), (4, 6), (5, 6)])
def test_listings_are_the_real_tools(seed, family, tmp_path):
    text = gen.ruleset(seed, family, 400)
    program = "iptables" if family == 4 else "ip6tables"
    script = f"{program}-legacy-restore -c || exit 9\n"
    for table in gen.BUILTIN:
        script += "".join(f"{program}-legacy -t {table} {form}; echo ==\n" for form in FORMS)
        script += f"{program}-legacy-save -c -t {table}; echo ==\n"
    out = real.shell(script, tmp_path / "lock", text)
    assert out.returncode == 0, out.stderr
    theirs = iter(out.stdout.split("==\n"))
    store = loaded(text, family)
    for table in gen.BUILTIN:
        for form in FORMS:
            ours = run([program, "-t", table, *form.split()], store)
            expected = next(theirs)
            if "-n" in form.split():
                expected = real.name_protocols(expected)
            assert ours.stdout == expected, (table, form)
        ours = run([program + "-save", "-c", "-t", table], store).stdout
        assert real.without_stamps(ours) == real.without_stamps(next(theirs)), table


@real.needs_tool
@pytest.mark.netns
@pytest.mark.parametrize("family", [4, 6])
def test_every_vector_is_listed_as_the_real_tool_does(family, tmp_path):
    """Each extension's own words in -L, with names and without."""
    chosen = [v for v in gen.accepted_vectors(family) if v.old is None and " 0b/s" not in v.wanted]    # which the tool cannot read back
    program = "iptables" if family == 4 else "ip6tables"
    tables = sorted({(v.table, v.chain) for v in chosen})
    store, script = MemoryStore(), ""
    for table, chain in tables:
        rules = [v for v in chosen if (v.table, v.chain) == (table, chain)]
        body = "".join(f"-A {chain} {v.wanted}\n" for v in rules)
        text = f"*{table}\n{body}COMMIT\n"
        (tmp_path / f"{table}{chain}").write_text(text)
        result = run([f"{program}-restore", "-n"], store, text)
        assert result.code == 0, result.stderr
        script += f"{program}-legacy-restore -n {tmp_path}/{table}{chain} || exit 9\n"
    for table, chain in tables:
        script += f"{program}-legacy -t {table} -nvL {chain}; echo ==; {program}-legacy -t {table} -L {chain}; echo ==\n"
    out = real.shell(script, tmp_path / "lock")
    assert out.returncode == 0, out.stderr
    theirs = iter(out.stdout.replace("\0", "").split("==\n"))      # bpf ends in a NUL there
    for table, chain in tables:
        expected = real.name_protocols(next(theirs)).splitlines()
        assert run([program, "-t", table, "-nvL", chain], store).stdout.splitlines() == expected
        assert run([program, "-t", table, "-L", chain], store).stdout.splitlines() == next(theirs).splitlines()
