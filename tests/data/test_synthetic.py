from __future__ import annotations

import numpy as np
import pytest

from recbole_sce.data.synthetic import SUCCESSOR_SHARES, LogSpec, generate_log, write_inter

SPEC = LogSpec(n_interactions=20_000, n_items=500, mean_length=20, max_length=200, seed=3)


def test_same_seed_same_log():
    for column, again, other in zip(
        generate_log(SPEC), generate_log(SPEC), generate_log(LogSpec(20_000, 500, 20, max_length=200, seed=4))
    ):
        np.testing.assert_array_equal(column, again)
        assert not np.array_equal(column, other)


def test_sizes_and_order():
    log = generate_log(SPEC)
    assert len(log.users) == len(log.items) == len(log.timestamps) == 20_000
    assert log.items.min() >= 1
    assert log.items.max() <= 500
    assert (np.diff(log.timestamps) >= 0).all()
    lengths = np.sort(np.bincount(log.users)[1:])
    assert (lengths[1:] >= SPEC.min_length).all()  # the shortest may be the cut-off last user
    assert lengths[-1] <= SPEC.max_length
    assert 15 < lengths.mean() < 25


def test_a_user_has_no_two_interactions_at_once():
    log = generate_log(SPEC)
    order = np.lexsort((log.timestamps, log.users))
    same_user = np.diff(log.users[order]) == 0
    assert (np.diff(log.timestamps[order])[same_user] > 0).all()


def test_items_follow_a_power_law():
    counts = np.sort(np.bincount(generate_log(SPEC).items, minlength=501)[1:])[::-1]
    assert counts[:5].sum() > 0.08 * counts.sum()  # the first 1 %
    assert counts[250:].sum() < 0.35 * counts.sum()  # the rarer half


def share_guessed_by_last_item(spec):
    """How often the most frequent follower of an item, learnt from half of the users, does so in the rest."""
    log = generate_log(spec)
    order = np.lexsort((log.timestamps, log.users))
    users, items = log.users[order], log.items[order]
    pair = np.flatnonzero(np.diff(users) == 0)
    learn, guess = pair[users[pair] % 2 == 0], pair[users[pair] % 2 == 1]
    followers = np.zeros((spec.n_items + 1, spec.n_items + 1))
    np.add.at(followers, (items[learn], items[learn + 1]), 1)
    return (followers.argmax(1)[items[guess]] == items[guess + 1]).mean()


def test_the_order_of_items_can_be_learnt():
    follows = SPEC.structure * SUCCESSOR_SHARES[0]
    assert share_guessed_by_last_item(SPEC) > 0.8 * follows
    without = LogSpec(20_000, 500, 20, max_length=200, structure=0.0, seed=3)
    assert share_guessed_by_last_item(without) < 0.3 * follows


def test_written_as_an_atomic_file(tmp_path):
    log = generate_log(LogSpec(50, 10, mean_length=8, min_length=2))
    path = write_inter(log, tmp_path, "made")
    assert path == tmp_path / "made" / "made.inter"
    lines = path.read_text().splitlines()
    assert lines[0] == "user_id:token\titem_id:token\ttimestamp:float"
    assert len(lines) == 51
    assert lines[1] == f"{log.users[0]}\t{log.items[0]}\t{log.timestamps[0]}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_interactions", 0),
        ("n_items", 0),
        ("min_length", 0),
        ("mean_length", 5.0),
        ("structure", 1.5),
        ("popularity_exponent", 1.0),
    ],
)
def test_impossible_values_are_named(key, value):
    with pytest.raises(ValueError, match=rf"{key} must be .*, got {value}"):
        LogSpec(**{"n_interactions": 10, "n_items": 10, key: value})
