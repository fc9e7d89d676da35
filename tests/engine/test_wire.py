"""The wire: everything that a probe may observe survives it; whatever is malformed raises Malformed and nothing else."""

import contextlib
import json
import math
import pickle
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from autograde import frames, wire
from autograde.observe import Observation, Raised
from autograde.values import DTYPES, Foreign, SeenTensor, seen
from autograde.wire import Malformed, decode, encode


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, SeenTensor):
        x, y = a.data, b.data
        return (
            a.device == b.device
            and x.dtype == y.dtype
            and x.shape == y.shape
            and torch.equal(x.double().nan_to_num(7.5), y.double().nan_to_num(7.5))
            and torch.equal(x.isnan(), y.isnan())
        )
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return a == b


def there(value):
    return decode(*encode(Observation(value))).value


PLAIN = [
    None, True, False, 0, 1, -1, 2**53 + 1, -(2**200), 0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, float("nan"),
    float("inf"), float("-inf"), "", "ä · \n\x00", "\ud800", (), {}, ((),), {"": ()}, {"a": {}}, (None, (True, 1, 1.0)),
    Foreign("an object"),
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=lambda v: repr(v)[:24])
def test_plain_values_survive(value):
    assert same(there(value), value)


def test_bool_and_int_and_float_stay_apart():
    assert [type(v) for v in there((True, 1, 1.0))] == [bool, int, float]
    assert not same((True,), (1,))


@pytest.mark.parametrize("digits", [900, 1100, 4200, 5000])
def test_a_large_whole_number_arrives_as_it_is_or_is_named_as_something_else(digits):
    number = 10**digits + 7
    arrived = there(seen(number))
    assert arrived == number or isinstance(arrived, Foreign)


@pytest.mark.parametrize("dtype", sorted(DTYPES, key=str), ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3)])
def test_tensors_of_every_dtype_and_shape_survive(dtype, shape):
    tensor = torch.randint(0, 2, shape).to(dtype)
    assert same(there(seen(tensor)), SeenTensor(tensor))


def test_nan_and_infinity_in_tensors_survive():
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        tensor = torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0], dtype=dtype)
        assert same(there(SeenTensor(tensor)), SeenTensor(tensor))


def test_tensors_that_are_views_of_one_storage_survive():
    base = torch.arange(12.0).reshape(3, 4)
    assert same(there(seen((base, base.t(), base[0], base))), seen((base, base.t(), base[0], base)))


def test_a_conjugate_view_arrives_with_its_values():
    negative = torch.complex(torch.ones(2), torch.ones(2)).conj().imag
    assert torch.equal(there(seen(negative)).data, torch.tensor([-1.0, -1.0]))


def test_everything_beside_the_value_survives():
    observation = Observation(
        None, Raised("ValueError", "no", ("line 1 in f: x",), False), ("x", "y"), ("tanh",)
    )
    assert decode(*encode(observation)) == observation
    assert decode(*encode(Observation(raised=Raised("A", "", (), True)))).raised.not_written is True


def nests():
    tensors = st.builds(
        lambda shape, dtype, n: SeenTensor(torch.full(shape, n % 2).to(dtype)),
        st.lists(st.integers(0, 3), max_size=3).map(tuple),
        st.sampled_from(sorted(DTYPES, key=str)),
        st.integers(0, 100),
    )
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.builds(Foreign, st.text()),
        tensors,
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4).map(tuple), st.dictionaries(st.text(), inner, max_size=4)
        ),
        max_leaves=12,
    )


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nests())
def test_every_nest_survives(value):
    assert same(there(value), value)


# --- malformed --------------------------------------------------------------------------------------------------------

EMPTY = save({})
GOOD = {"value": None, "raised": None, "changed": [], "called": []}


def refused(data, tensors=EMPTY):
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    with pytest.raises(Malformed):
        decode(text, tensors)


def test_the_good_form_is_accepted():
    assert decode(json.dumps(GOOD).encode(), EMPTY) == Observation()


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"null", b"[]", b"3", b'"text"', b"\xff\xfe\x00", b"\x80", b'{"value": NaN', b"[" * 200_000,
        b'{"value": ' + b"[" * 100_000, b'{"value": ' + b"9" * 5000 + b', "raised":null,"changed":[],"called":[]}',
        b'{"a":' * 5000, b" " * (wire.MAX_JSON + 1),
    ],
    ids=lambda b: repr(b[:14]),
)  # fmt: skip
def test_text_that_is_no_observation_is_malformed(text):
    refused(text)


@pytest.mark.parametrize(
    "change",
    [
        {"value": []}, {"value": 3}, {"value": 1.5}, {"value": [1]}, {"value": {}}, {"value": {"int": 3}},
        {"value": {"int": "x"}}, {"value": {"int": ""}}, {"value": {"int": "9" * 5000}}, {"value": {"float": 1.5}},
        {"value": {"float": "x"}}, {"value": {"float": "0x1p9999"}}, {"value": {"float": None}},
        {"value": {"tuple": 3}}, {"value": {"tuple": {}}}, {"value": {"tuple": [[]]}}, {"value": {"dict": 3}},
        {"value": {"dict": [["a", None, None]]}}, {"value": {"dict": [3]}}, {"value": {"dict": [[1, None]]}},
        {"value": {"dict": [["a", None], ["a", True]]}}, {"value": {"foreign": 3}}, {"value": {"tensor": "0"}},
        {"value": {"tensor": "0", "device": "cpu"}}, {"value": {"tensor": ["0"], "device": "cpu"}},
        {"value": {"tensor": "0", "device": 3}}, {"value": {"other": 1}}, {"value": {"int": "1", "float": "1"}},
        {"value": {"int": "1", "x": 1, "y": 2}}, {"raised": []}, {"raised": ["a", "b", [], 1]},
        {"raised": ["a", "b", "c", True]}, {"raised": ["a", None, [], True]}, {"raised": {"a": 1}}, {"raised": 3},
        {"changed": None}, {"changed": "x"}, {"changed": [1]}, {"changed": ["a"] * 1001}, {"called": {}},
        {"called": [None]}, {"extra": 1}, {"value": "x" * (wire.MAX_TEXT + 1)},
    ],
    ids=lambda c: repr(c)[:44],
)  # fmt: skip
def test_parts_of_a_wrong_form_are_malformed(change):
    refused({**GOOD, **change})


def test_missing_parts_are_malformed():
    for key in GOOD:
        refused({k: v for k, v in GOOD.items() if k != key})


def test_too_deep_and_too_many_are_malformed():
    deep = None
    for _ in range(60):
        deep = {"tuple": [deep]}
    refused({**GOOD, "value": deep})
    refused({**GOOD, "value": {"tuple": [None] * (wire.MAX_LEAVES + 1)}})
    assert (
        decode(json.dumps({**GOOD, "value": {"tuple": [None] * 1000}}).encode(), EMPTY).value
        == (None,) * 1000
    )


def one_tensor(tensor=None):
    return encode(Observation(SeenTensor(torch.ones(4) if tensor is None else tensor)))


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 20, -1])
def test_truncated_tensors_are_malformed(cut):
    text, tensors = one_tensor()
    refused(text, tensors[:cut])


def header(entries, data=b""):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "tensors",
    [
        struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 10**6) + b"{}", b"\xff" * 64,
        header([]), header({"0": 3}), header({"0": {}}),
        header({"0": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}, b"\0" * 16),
        header({"0": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 16]}}, b"\0" * 16),
        header({"0": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]}}, b"\0" * 16),
        header({"0": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}, b"\0" * 16),
        header({"0": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}, b"\0" * 16),
        header({"0": {"dtype": "F32", "shape": [4], "data_offsets": [0, 2**60]}}, b"\0" * 16),
        header({"0": {"dtype": "XX", "shape": [4], "data_offsets": [0, 16]}}, b"\0" * 16),
        header({"0": {"dtype": "C64", "shape": [2], "data_offsets": [0, 16]}}, b"\0" * 16),
        header({"0": {"dtype": "F8_E5M2", "shape": [16], "data_offsets": [0, 16]}}, b"\0" * 16),
        header({"0": {"dtype": "U64", "shape": [2], "data_offsets": [0, 16]}}, b"\0" * 16),
        header({"1": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, b"\0" * 16),
    ],
    ids=range(17),
)  # fmt: skip
def test_tensors_with_lying_headers_are_malformed(tensors):
    refused({**GOOD, "value": {"tensor": "0", "device": "cpu"}}, tensors)


def test_a_tensor_that_is_used_twice_is_malformed():
    part = {"tensor": "0", "device": "cpu"}
    refused({**GOOD, "value": {"tuple": [part, part]}}, save({"0": torch.ones(4)}))


def test_a_tensor_that_nobody_mentions_is_malformed():
    refused(GOOD, save({"0": torch.ones(4)}))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 400), st.integers(0, 255), st.booleans())
def test_a_flipped_byte_is_an_observation_or_malformed(where, byte, in_text):
    text, tensors = encode(Observation({"a": (SeenTensor(torch.ones(3)), 1, 2.5), "b": Foreign("x")}))
    parts = [bytearray(text), bytearray(tensors)]
    part = parts[0 if in_text else 1]
    part[where % len(part)] = byte
    with contextlib.suppress(Malformed):
        assert isinstance(decode(bytes(parts[0]), bytes(parts[1])), Observation)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes_are_an_observation_or_malformed(text, tensors):
    with pytest.raises(Malformed):
        decode(text, tensors)


def test_a_pickle_is_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "made"), "w"))

    payload = pickle.dumps(Evil())
    refused(payload)
    refused(GOOD, payload)
    assert not (tmp_path / "made").exists()


# --- frames -----------------------------------------------------------------------------------------------------------


class Pieces:
    """A stream that hands out its bytes in small pieces."""

    def __init__(self, data):
        self.data = data

    def read(self, size):
        piece, self.data = self.data[: min(size, 3)], self.data[min(size, 3) :]
        return piece


def framed(*parts):
    import io

    stream = io.BytesIO()
    frames.send(stream, *parts)
    return stream.getvalue()


def test_a_message_arrives_also_in_pieces():
    assert frames.receive(Pieces(framed(b"one", b"", b"three" * 10))) == [b"one", b"", b"three" * 10]


@pytest.mark.parametrize("cut", range(1, 15))
def test_a_message_that_ends_early_is_broken(cut):
    with pytest.raises(frames.Broken):
        frames.receive(Pieces(framed(b"one", b"two")[:-cut]))


def test_absurd_lengths_are_broken():
    for data in (b"\xff", b"\x01" + struct.pack(">Q", 2**63), b""):
        with pytest.raises(frames.Broken):
            frames.receive(Pieces(data))
