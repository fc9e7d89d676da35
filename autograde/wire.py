"""Observations on their way from another process: JSON for the structure, safetensors for the tensors, never pickle.

The side that decodes trusts nothing: sizes, depth, numbers of leaves and dtypes are capped, types are exact. Whatever
breaks a rule raises ``Malformed`` with the reason.
"""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from autograde.observe import Observation, Raised
from autograde.values import DTYPES, MAX_DEPTH, Foreign, SeenTensor, Value

MAX_JSON = 4_000_000
MAX_TENSORS = 256_000_000
MAX_LEAVES = 20_000
MAX_TEXT = 100_000


class Malformed(Exception):
    """What came from the other process is no observation; the message says why."""


def encode(observation: Observation) -> tuple[bytes, bytes]:
    """(JSON, safetensors). What cannot be sent (too deep, too large) has become ``Foreign`` before."""
    tensors: dict[str, torch.Tensor] = {}
    raised = observation.raised
    text = json.dumps(
        {
            "value": _pack(observation.value, tensors),
            "raised": None
            if raised is None
            else [raised.kind, raised.message, list(raised.frames), raised.not_written],
            "changed": list(observation.changed),
            "called": list(observation.called),
        },
        allow_nan=False,
    )
    return text.encode(), save_tensors(tensors)


def _pack(value: Value, tensors: dict[str, torch.Tensor]) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return {"int": str(value)}
    if isinstance(value, float):
        return {"float": value.hex() if math.isfinite(value) else str(value)}
    if isinstance(value, SeenTensor):
        name = str(len(tensors))
        tensors[name] = value.data.contiguous()
        return {"tensor": name, "device": value.device}
    if isinstance(value, Foreign):
        return {"foreign": value.why}
    if isinstance(value, tuple):
        return {"tuple": [_pack(item, tensors) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[key, _pack(item, tensors)] for key, item in value.items()]}
    raise TypeError(f"not a value: {type(value)}")


def decode(text: bytes, tensors: bytes) -> Observation:
    """The observation.

    Raises:
        Malformed: it is too large, or not of the form that ``encode`` gives.
    """
    if len(text) > MAX_JSON or len(tensors) > MAX_TENSORS:
        raise Malformed("the result is too large")
    try:
        data = json.loads(text)
        loaded = load_tensors(tensors)
    except (ValueError, RecursionError, RuntimeError) as error:
        raise Malformed(f"the result cannot be read ({type(error).__name__})") from None
    except Exception as error:  # safetensors has an exception of its own, which is no ValueError
        raise Malformed(f"the tensors cannot be read ({type(error).__name__})") from None
    if not isinstance(data, dict) or set(data) != {"value", "raised", "changed", "called"}:
        raise Malformed("the result has the wrong parts")
    unpacker = _Unpacker(loaded)
    value = unpacker.unpack(data["value"])
    if not unpacker.all_used():
        raise Malformed("there are tensors that the result does not mention")
    return Observation(value, _raised(data["raised"]), _texts(data["changed"]), _texts(data["called"]))


def _raised(data: Any) -> Raised | None:
    if data is None:
        return None
    if not (isinstance(data, list) and len(data) == 4 and isinstance(data[3], bool)):
        raise Malformed("the exception has the wrong parts")
    return Raised(_text(data[0]), _text(data[1]), _texts(data[2]), data[3])


def _texts(data: Any) -> tuple[str, ...]:
    if not isinstance(data, list) or len(data) > 1000:
        raise Malformed("a list of texts has the wrong form")
    return tuple(_text(item) for item in data)


def _text(data: Any) -> str:
    if not isinstance(data, str) or len(data) > MAX_TEXT:
        raise Malformed("a text is missing or too long")
    return data


class _Unpacker:
    """Rebuilds one value, and counts what it meets."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._tensors = tensors
        self._count = 0

    def unpack(self, data: Any, depth: int = 0) -> Value:
        self._count += 1
        if self._count > MAX_LEAVES or depth > 2 * MAX_DEPTH:
            raise Malformed("the result has too many parts")
        if data is None or isinstance(data, bool):
            return data
        if isinstance(data, str):
            return _text(data)
        if not isinstance(data, dict) or len(data) not in (1, 2):
            raise Malformed("a part of the result has the wrong form")
        if set(data) == {"tensor", "device"}:
            return self._tensor(data)
        ((kind, content),) = data.items() if len(data) == 1 else ((None, None),)
        if kind == "foreign":
            return Foreign(_text(content))
        if kind in ("int", "float"):
            return _number(kind, _text(content))
        if kind == "tuple" and isinstance(content, list):
            return tuple(self.unpack(item, depth + 1) for item in content)
        if kind == "dict" and isinstance(content, list):
            return self._dict(content, depth)
        raise Malformed("a part of the result has the wrong form")

    def _dict(self, content: list[Any], depth: int) -> Value:
        if not all(isinstance(item, list) and len(item) == 2 for item in content):
            raise Malformed("a part of the result has the wrong form")
        found = {_text(key): self.unpack(item, depth + 1) for key, item in content}
        if len(found) != len(content):
            raise Malformed("a key of the result stands twice")
        return found

    def all_used(self) -> bool:
        """Whether every tensor that came has a place in the value."""
        return not self._tensors

    def _tensor(self, data: dict[str, Any]) -> SeenTensor:
        tensor = self._tensors.pop(_text(data["tensor"]), None)
        if tensor is None or tensor.dtype not in DTYPES:
            raise Malformed("a tensor is missing or of a dtype that is not accepted")
        return SeenTensor(tensor, _text(data["device"])[:20])


def _too_long() -> int:
    raise Malformed("a number is too long")


def _number(kind: str, text: str) -> int | float:
    try:
        if kind == "int":
            return int(text) if len(text) <= 1000 else _too_long()
        return float(text) if text in ("nan", "inf", "-inf") else float.fromhex(text)
    except (ValueError, OverflowError):
        raise Malformed("a number cannot be read") from None
