"""Plain values become dataclasses by their annotations, or a refusal that names the place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from esccs_edge.contracts.decode import Decoder
from esccs_edge.errors import InputError


@dataclass(frozen=True)
class Inner:
    size: int
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1,)
    pair: tuple[float, float] = (0.0, 1.0)
    maybe: float | None = None
    parts: Mapping[str, Inner] = field(default_factory=dict)
    anything: Mapping[str, Any] = field(default_factory=dict)
    flag: bool = False


DECODER = Decoder(InputError, "option")
FULL = {
    "name": "n",
    "inner": {"size": 3, "share": 1},
    "kind": "b",
    "sizes": [1, 2],
    "pair": [0, 2.5],
    "maybe": 4,
    "parts": {"x": {"size": 1}},
    "anything": {"deep": [None, {"er": "x"}]},
    "flag": True,
}


def test_every_kind_of_field_is_read():
    found = DECODER.build(Outer, FULL)
    assert found == Outer(
        "n", Inner(3, 1.0), "b", (1, 2), (0.0, 2.5), 4.0, {"x": Inner(1)}, FULL["anything"], True
    )
    assert type(found.inner.share) is float and type(found.maybe) is float
    assert DECODER.build(Outer, {**FULL, "maybe": None}).maybe is None


@pytest.mark.parametrize(
    ("change", "named", "expected"),
    [
        ({"name": 3}, "'name'", "a string"),
        ({"inner": 3}, "'inner'", "an object"),
        ({"inner": {"size": 1.5}}, "'inner.size'", "an integer"),
        ({"inner": {"size": True}}, "'inner.size'", "an integer"),
        ({"inner": {"size": 2**63}}, "'inner.size'", "an integer"),
        ({"inner": {"size": 1, "share": "0.5"}}, "'inner.share'", "a finite number"),
        ({"inner": {"size": 1, "share": float("nan")}}, "'inner.share'", "a finite number"),
        ({"inner": {"size": 1, "share": False}}, "'inner.share'", "a finite number"),
        ({"kind": "c"}, "'kind'", "one of 'a', 'b'"),
        ({"kind": []}, "'kind'", "one of 'a', 'b'"),
        ({"sizes": []}, "'sizes'", "a list"),
        ({"sizes": [1, "2"]}, r"'sizes\[1\]'", "an integer"),
        ({"sizes": "12"}, "'sizes'", "a list"),
        ({"pair": [1.0]}, "'pair'", "a list of 2 values"),
        ({"maybe": "4"}, "'maybe'", "a finite number"),
        ({"parts": {"x": 1}}, "'parts.x'", "an object"),
        ({"parts": [1]}, "'parts'", "an object"),
        ({"flag": 1}, "'flag'", "true or false"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(change, named, expected):
    with pytest.raises(InputError, match=f"option {named} is .*expected {expected}"):
        DECODER.build(Outer, {**FULL, **change})


def test_unknown_and_missing_fields_are_refused():
    with pytest.raises(InputError, match="unknown option 'inner.depth'.*size, share"):
        DECODER.build(Outer, {**FULL, "inner": {"depth": 3}})
    with pytest.raises(InputError, match="inner is incomplete.*size"):
        DECODER.build(Outer, {**FULL, "inner": {}})
    with pytest.raises(InputError, match="document is incomplete.*name"):
        DECODER.build(Outer, {"inner": {"size": 1}})
    with pytest.raises(InputError, match="expected an object"):
        DECODER.build(Outer, ["name"])
