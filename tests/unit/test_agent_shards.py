"""Tables in parts: they behave like one dict and one set, and no part gets more than its share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vpp_operator.agent.shards import SHARDS, KeyShards, Shards

keys = st.binary(min_size=1, max_size=3)


@given(st.dictionaries(keys, st.integers()), st.dictionaries(keys, st.integers()), st.sets(keys))
def test_it_is_a_dict(first: dict[bytes, int], second: dict[bytes, int], gone: set[bytes]) -> None:
    table = Shards(first)
    table.update(second.items())
    expected = {**first, **second}
    for key in gone:
        assert table.get(key) == expected.get(key)
        assert (key in table) == (key in expected)
        assert table.pop(key, None) == expected.pop(key, None)
    assert dict(table) == expected and len(table) == len(expected)


@given(st.sets(keys), st.dictionaries(keys, st.integers()), st.integers(1, 5))
def test_it_is_a_set(some: set[bytes], entries: dict[bytes, int], size: int) -> None:
    marked, values = KeyShards(), Shards[int]()
    marked.update(some)
    values.update(entries.items())
    marked.update(entries)
    assert values == entries and set(marked) == some | entries.keys()
    assert len(marked) == len(some | entries.keys())
    parts = list(marked.parts(size))
    assert sorted(key for _, part in parts for key in part) == sorted(marked)
    for index, part in parts:
        assert len(part) <= size
        # the same part of both tables
        assert all((key in values.shards[index]) == (key in values) for key in part)
        marked.remove(index, part)
        assert not any(key in marked for key in part)
    assert not marked


def test_no_part_has_more_than_its_share() -> None:
    """Whatever the keys have in common: a part that grows copies all that is in it at once."""
    count = 64_000
    for step in (1, 256, 1 << 16):
        table = Shards({(i * step).to_bytes(16, "little"): 0 for i in range(count)})
        assert max(map(len, table.shards)) < 1.25 * count / SHARDS
