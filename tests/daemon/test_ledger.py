"""Counts across changes of the ruleset: what is the same object goes on counting, what is new starts at what it carries.

Expected figures are sums done by hand.
"""

from types import SimpleNamespace

import pytest

from nfqfw.daemon.ledger import Ledger


def owner(packets=0, size=0):
    return SimpleNamespace(packets=packets, bytes=size)


def program(rules, policies=()):
    """As compile.py numbers them: rules by row, then the policies of built-in chains."""
    return SimpleNamespace(owners=lambda: [*rules, *policies])


def test_starts_at_what_the_rules_carry():
    a, policy = owner(3, 300), owner(1, 10)
    ledger = Ledger()
    ledger.turn(program([a], [policy]), [])
    assert ledger.by_owner([(2, 20), (5, 50)]) == {id(a): (5, 320), id(policy): (6, 60)}


def test_shared_objects_keep_counting_through_insert_and_delete():
    a, b, c, policy = owner(), owner(), owner(7, 70), owner()
    ledger = Ledger()
    ledger.turn(program([a, b], [policy]), [])
    ledger.turn(program([c, b], [policy]), [(1, 10), (2, 20), (3, 30)])         # a deleted, c inserted before b
    assert ledger.by_owner([(1, 1), (1, 1), (1, 1)]) == {id(c): (8, 71), id(b): (3, 21), id(policy): (4, 31)}


def test_new_object_in_place_of_the_old_one_is_how_zero_is_told():
    a, zeroed = owner(), owner()
    ledger = Ledger()
    ledger.turn(program([a]), [])
    ledger.turn(program([zeroed]), [(9, 90)])
    assert ledger.by_owner([(0, 0)]) == {id(zeroed): (0, 0)}


def test_counts_survive_while_a_ruleset_is_not_compiled():
    policy, rule = owner(), owner()
    ledger = Ledger()
    ledger.turn(program([rule], [policy]), [])
    ledger.turn(program([]), [(4, 40), (5, 50)], parked=[policy])
    assert ledger.by_owner([]) == {id(policy): (5, 50)}
    ledger.turn(program([rule], [policy]), [])
    assert ledger.by_owner([(0, 0), (1, 1)])[id(policy)] == (6, 51)


def test_counts_of_another_program_are_an_error():
    ledger = Ledger()
    ledger.turn(program([owner()]), [])
    with pytest.raises(ValueError):
        ledger.by_owner([(1, 1), (2, 2)])


def test_renaming_a_chain_keeps_the_counts_of_the_jumps_to_it():
    before, after = owner(), owner()
    ledger = Ledger()
    ledger.turn(program([before]), [])
    after.continues = before
    ledger.turn(program([after]), [(4, 40)])
    assert ledger.by_owner([(1, 10)]) == {id(after): (5, 50)}
