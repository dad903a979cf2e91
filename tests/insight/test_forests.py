"""What changed from a forest to another is told tree by tree: nothing that did not, and all that did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forests import grown
from strop.forest import Forest
from strop.insight import forest_story
from strop.insight.forests import compare, match
from strop.insight.story import likeness

RNG = np.random.default_rng
X = RNG(3).normal(size=(400, 4))


def forest(**more: Any) -> Forest:
    return grown(RNG(0), trees=8, leaves=12, names=("age", "income", "city", "sex"), **more)


def told(found: dict[str, Any]) -> str:
    return " ".join(forest_story.tell({**found, "scores": likeness(found["scores"])}))


def test_the_same_forest_has_not_changed() -> None:
    found = compare(forest(), forest(), X)
    assert not found["anew"] and found["trees"]["changed"] == 0
    assert found["trees"]["removed"] == found["trees"]["added"] == []
    assert {one["what"] for one in found["by_tree"]} == {"as it was"}
    assert told(found).startswith("The scores are the original's") and "No tree has changed." in told(found)


def test_trees_that_are_left_out() -> None:
    first = forest()
    second = replace(first, roots=first.roots[:5], output=first.output[:5]).without_unused_nodes()
    found = compare(first, second, X)
    assert found["trees"] == {"original": 8, "candidate": 5, "removed": [5, 6, 7], "added": [], "changed": 0}
    assert [one["what"] for one in found["by_tree"][5:]] == ["removed"] * 3
    assert "3 trees left out" in told(found)
    middle = replace(first, roots=first.roots[[0, 1, 4, 5, 6, 7]], output=first.output[[0, 1, 4, 5, 6, 7]])
    assert compare(first, middle, X)["trees"]["removed"] == [2, 3]


def test_a_threshold_that_moved_and_a_leaf_of_another_value() -> None:
    first = forest()
    threshold, values = first.threshold.copy(), first.values.copy()
    node = next(at for at in np.flatnonzero(first.tree == 2) if first.feature[at] >= 0)
    leaf = next(at for at in np.flatnonzero(first.tree == 6) if first.feature[at] < 0)
    threshold[node] += 0.25
    values[first.leaf[leaf]] -= 0.5
    found = compare(first, replace(first, threshold=threshold, values=values), X)
    assert found["trees"]["changed"] == 2
    assert found["splits"]["moved"] == 1 and found["splits"]["largest_move"] == pytest.approx(0.25)
    assert found["leaves"]["changed"] == 1 and found["leaves"]["largest_change"] == pytest.approx(0.5)
    changed = {one["original"]: one["what"] for one in found["by_tree"] if one["what"] != "as it was"}
    assert changed == {2: "1 threshold moved", 6: "1 leaf value changed"}
    assert "1 threshold moved (by 0.25 at the most); 1 leaf of another value (by 0.5 at the most)" in told(found)
    column = first.names[first.feature[node]]
    before, after = (f"{column} <= {one:.6g}" for one in (first.threshold[node], threshold[node]))
    assert found["splits"]["named"] == [{"tree": 2, "original": before, "candidate": after}]
    assert f"Splits: in tree 2, {before} became {after}." in told(found)


def test_leaves_that_were_merged() -> None:
    first = forest()
    splits = np.flatnonzero((first.tree == 1) & (first.feature >= 0))
    node = max(splits, key=lambda at: first.depth[at])  # both of its children are leaves
    feature, leaf, left, right = (array.copy() for array in (first.feature, first.leaf, first.left, first.right))
    feature[node], leaf[node] = -1, leaf[left[node]]
    left[node] = right[node] = -1
    second = replace(first, feature=feature, leaf=leaf, left=left, right=right).without_unused_nodes()
    found = compare(first, second, X)
    assert found["leaves"]["merged"] == found["splits"]["removed"] == 1
    assert found["leaves"]["original"] - found["leaves"]["candidate"] == 1
    assert found["by_tree"][1]["what"] == "1 split removed"
    assert "1 split taken out; 1 leaf merged" in told(found)
    split = f"{first.names[first.feature[node]]} <= {first.threshold[node]:.6g}"
    assert f"Splits: in tree 1, {split} was taken out." in told(found)


def test_a_split_that_was_decided_is_taken_out_and_what_is_below_it_found_again() -> None:
    first = forest()
    root = first.roots[0]
    child = next(at for at in (first.left[root], first.right[root]) if first.feature[at] >= 0)
    roots = first.roots.copy()
    roots[0] = child
    found = compare(first, replace(first, roots=roots).without_unused_nodes(), X)
    assert match(first, replace(first, roots=roots).without_unused_nodes())[0] == (0, 0)
    assert found["splits"]["other"] == 0 and found["splits"]["removed"] >= 1


def test_columns_that_are_not_looked_at_any_more() -> None:
    first = forest()
    second = grown(RNG(5), trees=8, features=3, leaves=12)
    found = compare(first, replace(second, features=4, names=first.names), X)
    assert found["anew"] and found["columns"]["dropped"] == ["sex"]
    assert "trained anew" in told(found) and "It does not look at sex any more." in told(found)
    assert found["trees"]["removed"] == list(range(8)) and found["trees"]["added"] == list(range(8))
    assert found["splits"]["named"] == []


def test_columns_that_only_the_candidate_looks_at() -> None:
    first, second = grown(RNG(5), trees=8, features=3, leaves=12), forest()
    found = compare(replace(first, features=4, names=second.names), second, X)
    assert found["columns"]["added"] == ["sex"]
    assert "It looks at sex, which the original does not." in told(found)


def test_many_splits_that_changed_are_counted_only() -> None:
    first = forest()
    found = compare(first, replace(first, threshold=first.threshold + 1e-3), X)
    assert found["splits"]["moved"] > 12 and found["splits"]["named"] == []


def test_what_moves_from_the_trees_into_what_the_sums_begin_with_has_changed_none() -> None:
    first = forest()
    ends = np.flatnonzero((first.tree >= 0) & (first.feature < 0))
    values, leaf = first.values[first.leaf[ends]], first.leaf.copy()
    leaf[ends] = np.arange(len(ends))
    values = values - 0.5 * (1 + first.tree[ends])[:, None]
    base = first.base + 0.5 * np.arange(1, 9).sum()
    found = compare(first, replace(first, values=values, leaf=leaf, base=base), X)
    assert found["leaves"]["largest_change"] < 1e-9
    assert max(one["error"] for one in found["by_tree"]) < 1e-9
    assert max(one["accumulated"] for one in found["by_tree"]) < 1e-6


def test_splits_are_counted_by_column() -> None:
    first = forest()
    second = replace(first, roots=first.roots[:5], output=first.output[:5]).without_unused_nodes()
    found = compare(first, second, X)
    for side, one in (("original", first), ("candidate", second)):
        counted = {told["name"]: told[side] for told in found["by_column"]}
        assert sum(counted.values()) == found["splits"][side]
        assert counted["sex"] == ((one.feature == 3) & (one.tree >= 0)).sum()


@pytest.mark.parametrize("vectors", [False, True])
def test_effects_of_trees_add_up_to_the_change_of_the_scores(vectors: bool) -> None:
    first = forest(outputs=3, vectors=vectors)
    values = np.round(first.values * 4) / 4
    second = replace(first, values=values, roots=first.roots[:6], output=first.output[:6], base=first.base + 0.125)
    found = compare(first, second.without_unused_nodes(), X)
    change = second.scores(X).astype(float) - first.scores(X)
    size = np.sqrt((first.scores(X).astype(float) ** 2).mean())
    assert found["by_tree"][-1]["accumulated"] == pytest.approx(np.sqrt((change**2).mean()) / size, rel=1e-6)
    assert sum(one["share"] for one in found["by_tree"]) == pytest.approx(1)


def test_categories_that_a_split_lets_through() -> None:
    first = forest(subsets=1.0)
    found = compare(first, first, X)
    assert found["trees"]["changed"] == 0
    members = first.members.copy()
    members[-1] += 1
    changed = compare(first, replace(first, members=members), X)
    assert changed["splits"]["other"] == 1 and changed["trees"]["changed"] == 1
    (split,) = changed["splits"]["named"]
    assert split["original"] != split["candidate"] and " in {" in split["original"]
    assert f"{split['original']} became {split['candidate']}" in told(changed)
