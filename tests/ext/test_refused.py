"""What this build only reads: it is checked, printed, and refused by a live engine with place and reason."""

import pytest

from nfqfw.compile import compile_rulesets
from nfqfw.errors import RuleErrors
from nfqfw.rules import check, load
from tests.cli.test_readme import KINDS, names_by_row
from tests.ext import vectors
from tests.ext.test_vectors import NEVER_ACCEPTED

NAMES = [(kind, name) for title, names in names_by_row().items() for kind in (title.partition(",")[0],) if not title.endswith(", evaluated")
         for name in sorted(names)]


@pytest.mark.parametrize("kind, name", NAMES)
def test_refused_live_with_place_and_reason(kind, name):
    accepted = [v for v in vectors.read(vectors.HERE / f"{name}.t") if v.ok and f"{KINDS[kind][0]} {name}" in v.wanted]
    if name in NEVER_ACCEPTED:
        assert not accepted, "then it is refused when it is read"
        return
    for vector in accepted:
        family = 2 if vector.family == 4 else 10
        ruleset = load(f"*{vector.table}\n:{vector.chain} ACCEPT [0:0]\n-A {vector.chain} {vector.wanted}\nCOMMIT\n", "rules", family)
        check(ruleset)
        with pytest.raises(RuleErrors) as caught:
            compile_rulesets([ruleset])
        assert {error.span.line for error in caught.value.errors} == {3}
        assert all(error.message.startswith(("not evaluated yet: ", "not possible: ")) for error in caught.value.errors)
