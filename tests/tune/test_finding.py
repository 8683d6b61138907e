"""Numbers against the table of thresholds."""

import math

import pytest

import fnn


@pytest.mark.parametrize("id", list(fnn.CHECKS))
def test_a_number_is_held_against_both_thresholds(id):
    check = fnn.CHECKS[id]
    towards = 1 if check.bad == "high" else -1
    for threshold, at, beyond in (
        (check.warn, ("PASS",), ("WARN", "FAIL")),
        (check.fail, ("PASS", "WARN"), ("FAIL",)),
    ):
        if math.isfinite(threshold):
            (found,) = fnn.find_all({id: threshold})
            assert found.verdict in at
            (found,) = fnn.find_all({id: threshold + towards * (1e-6 + 1e-6 * abs(threshold))})
            assert found.verdict in beyond


@pytest.mark.parametrize("id", list(fnn.CHECKS))
def test_a_check_warns_no_later_than_it_fails_and_says_what_to_do(id):
    check = fnn.CHECKS[id]
    assert (check.warn <= check.fail) if check.bad == "high" else (check.warn >= check.fail)
    assert check.advice
    assert check.source
    assert check.measures


def test_a_number_that_does_not_exist_is_skipped_and_infinity_is_not():
    skipped, failed = fnn.find_all({"data_leak": math.nan, "rate_high": math.inf})
    assert skipped.verdict == "SKIP"
    assert skipped.advice == ""
    assert failed.verdict == "FAIL"


def test_the_first_finding_is_the_worst_and_among_equals_the_cause():
    numbers = {"rate_high": 3.0, "data_leak": 0.05, "data_labels": 0.0, "data_range": 0.0, "frozen": math.nan}
    found = fnn.by_urgency(fnn.find_all(numbers))
    assert [(f.verdict, f.id) for f in found] == [
        ("FAIL", "data_labels"), ("FAIL", "rate_high"), ("WARN", "data_leak"), ("PASS", "data_range"), ("SKIP", "frozen"),
    ]  # fmt: skip
    assert all(bool(f.advice) == (f.verdict in ("WARN", "FAIL")) for f in found)


def test_the_evidence_stands_behind_the_words_of_the_check():
    (found,) = fnn.find_all({"data_leak": 0.5}, {"data_leak": "3 of 6"})
    assert found.why == f"{fnn.CHECKS['data_leak'].measures}: 3 of 6"
    assert (found.value, found.threshold) == (0.5, fnn.CHECKS["data_leak"].fail)
