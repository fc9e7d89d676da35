"""The exercise ``generate`` of the lesson rnn/04_char_lm.

The models are toys whose distribution is known. At temperature 0, and where one character leads by far, the text itself is
compared. Elsewhere frequencies are: a right answer may use the generator in another order. Their bounds are those of
Bernstein's inequality for a false alarm of at most 1e-10 for one check.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.exercises.rnn.sample_batch import global_states, how_often
from autograde.observe import Implementation, Inputs, Observation
from utils.reference import rnn as reference

Step = Callable[..., tuple[Tensor, Any]]


class Reader:
    """A toy model whose state depends on everything that it has read; it notes what that was.

    ``pair``: the state is a tuple of two tensors, as an LSTM's. ``lead``: the others have the logit ``floor``, the best
    character this much more.
    """

    def __init__(
        self, inputs: Inputs, pair: bool = False, lead: float | None = None, floor: float = 0.0
    ) -> None:
        self.U, self.R, self.O = inputs["U"], inputs["R"], inputs["O"]
        self.pair, self.lead, self.floor = pair, lead, floor
        self.read: list[int] = []

    def start(self) -> Any:
        """The state before the first character."""
        zeros = torch.zeros_like(self.R[0])
        return (zeros, zeros + 0.5) if self.pair else zeros

    def __call__(self, symbol: Any, state: Any) -> tuple[Tensor, Any]:
        self.read.append(int(symbol))
        h, c = state if self.pair else (state, 0.5)
        new = torch.sin(2 * h @ self.R + self.U[int(symbol)] + c)
        logits = new @ self.O
        if self.lead is not None:
            best = torch.nn.functional.one_hot(logits.argmax(), len(logits)).to(logits)
            logits = self.floor + self.lead * best
        return logits, (new, 0.5 * c + 0.5 * h.abs()) if self.pair else new


def _call(
    implementation: Implementation, step: Step, state: Any, inputs: Inputs, generator: torch.Generator
) -> Any:
    return implementation(step, state, inputs["prompt"], inputs["n"], inputs["temperature"], generator)


def _generator(inputs: Inputs, offset: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(inputs["seed"] + offset)


def written(implementation: Implementation, inputs: Inputs) -> Any:
    """The text."""
    model = Reader(inputs, inputs["pair"], inputs["lead"], inputs["floor"])
    return _call(implementation, model, model.start(), inputs, _generator(inputs))


def written_and_counted(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The text, how often the step was called, and what it read (without the last character written, if that was read)."""
    model = Reader(inputs, inputs["pair"], inputs["lead"])
    value = _call(implementation, model, model.start(), inputs, _generator(inputs))
    read = model.read[: len(inputs["prompt"]) + inputs["n"] - 1]
    return {"calls of step": len(model.read), "value": value, "what the step read": torch.tensor(read)}


def _short_in_double(inputs: Inputs, logits: Tensor) -> Inputs:
    """The inputs for one character where the logits are in float64: tolerances are derived there, and words have none."""
    return {**inputs, "n": 1, "texts": 1} if logits.dtype is torch.float64 else inputs


def frequencies(implementation: Implementation, inputs: Inputs) -> dict[str, str]:
    """How often each character is written, in words; the toy's logits are the same at every step.

    In texts of one or two characters each place is looked at on its own.
    """
    inputs = _short_in_double(inputs, inputs["logits"])
    logits, temperature, generator = inputs["logits"], inputs["temperature"], _generator(inputs)
    texts = torch.stack(
        [
            _call(implementation, lambda symbol, state: (logits, state), None, inputs, generator).cpu()
            for _ in range(inputs["texts"])
        ]
    )
    p = torch.softmax(logits.double().cpu() / temperature, dim=0)
    places = [(f" as number {k + 1}", column) for k, column in enumerate(texts.unbind(1))]
    groups = places if inputs["n"] <= 2 else [("", texts.flatten())]
    return {
        f"character {b}{where}": how_often(
            float((text == b).double().mean()), float(p[b]), len(text), len(p) * len(groups)
        )
        for where, text in groups
        for b in range(len(p))
    }


def followers(implementation: Implementation, inputs: Inputs) -> dict[str, str]:
    """How often each character follows each other one, in words; the toy's logits depend on the character that it reads."""
    inputs = _short_in_double(inputs, inputs["table"])
    table, temperature = inputs["table"], inputs["temperature"]
    text = _call(
        implementation, lambda symbol, state: (table[int(symbol)], state), None, inputs, _generator(inputs)
    )
    whole = torch.cat([inputs["prompt"][-1:].cpu(), text.cpu()])
    p = torch.softmax(table.double().cpu() / temperature, dim=1)
    words = {}
    for a in range(len(table)):
        after = whole[1:][whole[:-1] == a]
        for b in range(len(table)):
            share = float((after == b).double().mean()) if len(after) else float(p[a, b])
            words[f"{b} after {a}"] = how_often(share, float(p[a, b]), max(len(after), 1), p.numel())
    return words


def randomness(implementation: Implementation, inputs: Inputs) -> dict[str, bool]:
    """What the text depends on. Two texts of 50 fair draws of 4 are equal by chance with a probability below 1e-30."""
    table = inputs["table"]

    def write(generator: torch.Generator) -> list[int]:
        step = lambda symbol, state: (table[int(symbol)], state)  # noqa: E731
        text: list[int] = _call(implementation, step, None, inputs, generator).tolist()
        return text

    before = global_states()
    generator = _generator(inputs)
    first, same, different = write(generator), write(_generator(inputs)), write(_generator(inputs, 1))
    second = write(generator)
    return {
        "the same seed gives the same text": first == same,
        "another seed gives another text": first != different,
        "a second call gives another text": first != second,
        "no other source of randomness is used": global_states() == before,
    }


def graph(implementation: Implementation, inputs: Inputs) -> dict[str, bool]:
    """When gradients are tracked; the model's weights require them. A second text is written where they are off already."""
    weights = {name: inputs[name].clone().requires_grad_() for name in ("U", "R", "O")}
    model, carried, tracked = Reader(weights), [], []

    def step(symbol: Any, state: Tensor) -> tuple[Tensor, Tensor]:
        carried.append(state.requires_grad)
        tracked.append(torch.is_grad_enabled())
        return model(symbol, state)

    _call(implementation, step, model.start(), inputs, _generator(inputs))
    after, read = torch.is_grad_enabled(), len(inputs["prompt"])
    found = {
        "gradients are tracked while the prompt is read": any(tracked[:read]),
        "gradients are tracked while the text is written": any(tracked[read:]),
        "a state carries a graph": any(carried),
        "gradients are on again afterwards": after,
    }
    with torch.no_grad():
        _call(implementation, step, model.start(), inputs, _generator(inputs))
        return {**found, "where gradients were off, they stay off": not torch.is_grad_enabled()}


def _reader(
    prompt: int,
    n: int,
    temperature: float,
    symbols: int = 6,
    pair: bool = False,
    lead: float | None = None,
    floor: float = 0.0,
    dtype: torch.dtype = torch.int64,
) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {
            "prompt": source.integers(prompt, low=0, high=symbols - 1).to(dtype),
            "n": n,
            "temperature": temperature,
            "U": source.normal(symbols, 5, scale=2.0),
            "R": source.normal(5, 5),
            "O": source.normal(5, symbols),
            "seed": source.integer(0, 10**6),
            "pair": pair,
            "lead": lead,
            "floor": floor,
        }

    return draw


def _table(rows: list[list[float]], n: int, temperature: float) -> Callable[[Draw], Inputs]:
    def draw(source: Draw) -> Inputs:
        return {
            "prompt": torch.tensor([1, 0]),
            "n": n,
            "temperature": temperature,
            "table": torch.tensor(rows) + 5 * source.normal(1),
            "seed": source.integer(0, 10**6),
        }

    return draw


# After 0 anything, 1 a little more likely; after 1 nearly always 0; after 2 nearly always 2.
_CHAIN = [[0.0, 0.1, 0.0], [4.0, 0.0, 0.0], [0.0, 0.0, 3.0]]
_FAIR = [[0.0, 0.0, 0.0, 0.0]] * 4


def _logits(
    logits: list[float], temperature: float, n: int = 500, texts: int = 1, shift: float = 5.0
) -> Callable[[Draw], Inputs]:
    """These are the logits in units of the temperature; a random number of size ``shift`` is added to all of them."""

    def draw(source: Draw) -> Inputs:
        return {
            "prompt": torch.tensor([2]),
            "n": n,
            "texts": texts,
            "temperature": temperature,
            "logits": temperature * torch.tensor(logits) + shift * source.normal(1),
            "seed": source.integer(0, 10**6),
        }

    return draw


_LEAD = [1.5, 0.0, -40.0]
"""Character 0 leads, character 2 hardly ever comes."""


def _softmax(logits: Tensor, temperature: float) -> Tensor:
    return torch.softmax(logits.double() / temperature, dim=-1).cpu()


def _draw(p: Tensor, generator: torch.Generator | None) -> int:
    return int(torch.multinomial(p, 1, generator=generator))


def _pick(logits: Tensor, temperature: float, generator: torch.Generator | None) -> int:
    return int(logits.argmax()) if temperature == 0 else _draw(_softmax(logits, temperature), generator)


def _warm(step: Step, state: Any, prompt: Tensor) -> tuple[Tensor, Any]:
    logits = torch.zeros(1)
    for symbol in prompt.tolist():
        logits, state = step(symbol, state)
    return logits, state


def _write(
    step: Step,
    state: Any,
    prompt: Tensor,
    n: int,
    choose: Callable[[Tensor], int],
    *,
    after: Callable[[int, Any, Any], Any] = lambda k, new, old: new,
    read: Callable[[int, Tensor], int] = lambda symbol, logits: symbol,
) -> Tensor:
    """The loop, with switches for what goes wrong: the state that is handed on, and the character that is read."""
    logits, state = _warm(step, state, prompt)
    text: list[int] = []
    while len(text) < n:
        if text:
            logits, new = step(read(text[-1], logits), state)
            state = after(len(text), new, state)
        text.append(choose(logits))
    return torch.tensor(text, dtype=torch.int64, device=prompt.device)


@torch.no_grad()
def _always_largest(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(step, state, prompt, n, lambda logits: int(logits.argmax()))


@torch.no_grad()
def _multiplied(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    def choose(logits: Tensor) -> int:
        if temperature == 0:
            return int(logits.argmax())
        return _draw(torch.softmax(logits.double() * temperature, -1).cpu(), generator)

    return _write(step, state, prompt, n, choose)


@torch.no_grad()
def _temperature_ignored(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(step, state, prompt, n, lambda logits: _pick(logits, float(temperature > 0), generator))


@torch.no_grad()
def _of_probabilities(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    def choose(logits: Tensor) -> int:
        if temperature == 0:
            return int(logits.argmax())
        return _draw(_softmax(_softmax(logits, 1.0), temperature), generator)

    return _write(step, state, prompt, n, choose)


@torch.no_grad()
def _squared(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(step, state, prompt, n, lambda logits: _pick(logits, temperature**2, generator))


@torch.no_grad()
def _zero_is_one(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(step, state, prompt, n, lambda logits: _pick(logits, temperature or 1.0, generator))


@torch.no_grad()
def _state_not_carried(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(
        step,
        state,
        prompt,
        n,
        lambda logits: _pick(logits, temperature, generator),
        after=lambda k, new, old: old,
    )


@torch.no_grad()
def _state_reset(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    logits, _ = _warm(step, state, prompt)
    text: list[int] = []
    while len(text) < n:
        if text:
            logits, _ = step(text[-1], state)
        text.append(_pick(logits, temperature, generator))
    return torch.tensor(text, dtype=torch.int64, device=prompt.device)


@torch.no_grad()
def _prompt_without_state(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(step, state, prompt[-1:], n, lambda logits: _pick(logits, temperature, generator))


@torch.no_grad()
def _first_of_prompt(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(step, state, prompt[:1], n, lambda logits: _pick(logits, temperature, generator))


@torch.no_grad()
def _last_read_twice(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    twice = torch.cat([prompt, prompt[-1:]])
    return _write(step, state, twice, n, lambda logits: _pick(logits, temperature, generator))


@torch.no_grad()
def _with_prompt(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return torch.cat([prompt, reference.generate(step, state, prompt, n, temperature, generator)])


@torch.no_grad()
def _prompt_counted(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    left = max(0, n - len(prompt))
    return torch.cat([prompt, reference.generate(step, state, prompt, left, temperature, generator)])[:n]


@torch.no_grad()
def _last_of_prompt_first(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    rest = reference.generate(step, state, prompt, max(0, n - 1), temperature, generator)
    return torch.cat([prompt[-1:], rest])[:n]


@torch.no_grad()
def _one_too_many(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(step, state, prompt, n + 1, lambda logits: _pick(logits, temperature, generator))


@torch.no_grad()
def _first_dropped(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(step, state, prompt, n + 1, lambda logits: _pick(logits, temperature, generator))[1:]


@torch.no_grad()
def _largest_read(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(
        step,
        state,
        prompt,
        n,
        lambda logits: _pick(logits, temperature, generator),
        read=lambda symbol, logits: int(logits.argmax()),
    )


@torch.no_grad()
def _same_logits(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    logits, _ = _warm(step, state, prompt)
    text = [_pick(logits, temperature, generator) for _ in range(n)]
    return torch.tensor(text, dtype=torch.int64, device=prompt.device)


@torch.no_grad()
def _global_generator(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(step, state, prompt, n, lambda logits: _pick(logits, temperature, None))


@torch.no_grad()
def _reset_generator(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    generator.manual_seed(generator.initial_seed())
    return _write(step, state, prompt, n, lambda logits: _pick(logits, temperature, generator))


@torch.no_grad()
def _seeded_inside(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(
        step, state, prompt, n, lambda logits: _pick(logits, temperature, torch.Generator().manual_seed(0))
    )


@torch.no_grad()
def _prefix_read_again(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    text = prompt
    for _ in range(n):
        logits, _ = _warm(step, state, text)
        text = torch.cat([text, text.new_tensor([_pick(logits, temperature, generator)])])
    return text[len(prompt) :]


def _graph_kept(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(step, state, prompt, n, lambda logits: _pick(logits.detach(), temperature, generator))


def _switched_off_for_good(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    torch.set_grad_enabled(False)
    return _write(step, state, prompt, n, lambda logits: _pick(logits, temperature, generator))


@torch.no_grad()
def _own_generator(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    own = torch.Generator().manual_seed(0)
    return _write(step, state, prompt, n, lambda logits: _pick(logits, temperature, own))


@torch.no_grad()
def _seeded_by_the_clock(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    own = torch.Generator()
    own.seed()
    return _write(step, state, prompt, n, lambda logits: _pick(logits, temperature, own))


@torch.no_grad()
def _global_seed_set(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    torch.manual_seed(0)
    return _write(step, state, prompt, n, lambda logits: _pick(logits, temperature, None))


@torch.no_grad()
def _called_twice(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    def two_calls(symbol: int, state: Any) -> tuple[Tensor, Any]:
        return step(symbol, state)[0], step(symbol, state)[1]

    return _write(two_calls, state, prompt, n, lambda logits: _pick(logits, temperature, generator))


@torch.no_grad()
def _last_not_read(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    text: list[int] = []
    for symbol in prompt[:-1].tolist():
        logits, state = step(symbol, state)
    for _ in range(n):
        text.append(_pick(logits, temperature, generator))
        logits, state = step(text[-1], state)
    return torch.tensor(text, dtype=torch.int64, device=prompt.device)


@torch.no_grad()
def _first_not_drawn(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    temperatures = iter([0.0] + [temperature] * n)
    return _write(step, state, prompt, n, lambda logits: _pick(logits, next(temperatures), generator))


@torch.no_grad()
def _normal_noise(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    def choose(logits: Tensor) -> int:
        return int((logits.cpu() + temperature * torch.randn(len(logits), generator=generator)).argmax())

    return _write(step, state, prompt, n, choose)


@torch.no_grad()
def _power_of_probabilities(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    def choose(logits: Tensor) -> int:
        if temperature == 0:
            return int(logits.argmax())
        return _draw(torch.softmax(logits, dim=-1).cpu() ** (1 / temperature), generator)

    return _write(step, state, prompt, n, choose)


@torch.no_grad()
def _small_number_for_zero(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(step, state, prompt, n, lambda logits: _pick(logits, max(temperature, 1e-6), generator))


@torch.no_grad()
def _never_colder(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    warm = max(temperature, 1e-4) if temperature else 0.0
    return _write(step, state, prompt, n, lambda logits: _pick(logits, warm, generator))


@torch.no_grad()
def _small_number_added(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return _write(step, state, prompt, n, lambda logits: _pick(logits, temperature + 1e-8, generator))


@torch.no_grad()
def _largest_probability(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    def choose(logits: Tensor) -> int:
        return _pick(logits if temperature else torch.softmax(logits, dim=-1), temperature, generator)

    return _write(step, state, prompt, n, choose)


def _dtype_of_the_prompt(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    return reference.generate(step, state, prompt, n, temperature, generator).to(prompt.dtype)


def _graph_of_the_prompt(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    for symbol in prompt[:-1].tolist():
        _, state = step(symbol, state)
    logits, state = step(int(prompt[-1]), state)
    text: list[int] = []
    with torch.no_grad():
        for _ in range(n):
            text.append(_pick(logits, temperature, generator))
            logits, state = step(text[-1], state)
    return torch.tensor(text, dtype=torch.int64, device=prompt.device)


def _graph_of_the_text(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    with torch.no_grad():
        logits, state = _warm(step, state, prompt)
    text: list[int] = []
    for _ in range(n):
        text.append(_pick(logits.detach(), temperature, generator))
        logits, state = step(text[-1], state)
    return torch.tensor(text, dtype=torch.int64, device=prompt.device)


def _states_detached(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    def detached(symbol: int, state: Any) -> tuple[Tensor, Any]:
        logits, state = step(symbol, state)
        parts = tuple(part.detach() for part in state) if type(state) is tuple else state
        return logits.detach(), parts.detach() if isinstance(parts, Tensor) else parts

    return _write(detached, state, prompt, n, lambda logits: _pick(logits, temperature, generator))


def _switched_on_at_the_end(
    step: Step, state: Any, prompt: Tensor, n: int, temperature: float, generator: torch.Generator
) -> Tensor:
    torch.set_grad_enabled(False)
    text = _write(step, state, prompt, n, lambda logits: _pick(logits, temperature, generator))
    torch.set_grad_enabled(True)
    return text


_ONCE = "each character is read once"


def _reads_again(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Far more calls than characters, and the right text."""
    values = [entry.value for (requirement, _), entry in observed.items() if requirement == _ONCE]
    calls = [value["calls of step"] for value in values if type(value) is dict]
    return bool(calls) and min(calls) > 10 * 60


_SIZES = {"a prompt of 10, 50 characters": (10, 50), "a prompt of one, 60 characters, drawn": (1, 60)}


def _doubled(read: list[int]) -> bool:
    """Whether each character was read twice in a row."""
    return all(first == second for first, second in zip(read[0::2], read[1::2], strict=False))


def _calls_twice(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Just twice as many calls as characters, in the shown cases; the last character need not be read."""
    values = {case: entry.value for (requirement, case), entry in observed.items() if requirement == _ONCE}
    return bool(values) and all(
        values[case]["calls of step"] in (2 * (prompt + n), 2 * (prompt + n - 1))
        and _doubled(values[case]["what the step read"].data.tolist())
        for case, (prompt, n) in _SIZES.items()
    )


generate = Exercise(
    reference.generate,
    requirements=(
        Requirement(
            "writes the most likely character at temperature 0",
            (
                Case("prompt of 4, 12 characters", _reader(4, 12, 0.0)),
                Case("prompt of one character", _reader(1, 9, 0)),
                Case("one character", _reader(5, 1, 0.0)),
                Case("no character", _reader(3, 0, 0.0)),
                Case("as many characters as the prompt has", _reader(7, 7, 0.0, symbols=7)),
                Case("a state of two tensors, as in an LSTM", _reader(3, 20, 0.0, pair=True)),
                Case(
                    "the largest logit leads by one in a million, 40 characters",
                    _reader(3, 40, 0.0, lead=1e-6, floor=1.0),
                ),
                Case("the largest logit leads by 1e-10, 40 characters", _reader(3, 40, 0.0, lead=1e-10)),
                Case("a prompt in int32", _reader(4, 12, 0.0, dtype=torch.int32)),
                Case("300 characters, 20 symbols", _reader(2, 300, 0.0, symbols=20), shown=False),
            ),
            written,
            points=2,
        ),
        Requirement(
            "draws from softmax(logits / temperature)",
            (
                Case("500 characters at temperature 4", _logits(_LEAD, 4.0)),
                Case("500 characters at temperature 0.001", _logits(_LEAD, 1e-3)),
                Case("500 characters at a temperature of one in a million", _logits(_LEAD, 1e-6, shift=1e-6)),
                Case(
                    "200 characters, one leads before 30 others",
                    _logits([math.log(30)] + [0.0] * 30, 0.7, n=200),
                ),
                Case("100 texts of two characters", _logits([0.2, 0.0, -0.1], 1.5, n=2, texts=100)),
                Case("200 characters at temperature 10,000", _logits([0.5, 0.0, -40.0], 1e4, n=200)),
                Case("500 characters at temperature 0.25", _logits(_LEAD, 0.25), shown=False),
                Case(
                    "4 texts of 500 characters at temperature 1, one character is rare",
                    _logits([math.log(p) for p in (0.5, 0.3, 0.155, 0.045)], 1.0, texts=4),
                    shown=False,
                ),
            ),
            frequencies,
            points=2,
        ),
        Requirement(
            "what is drawn decides what comes next",
            (
                Case("300 characters, the next one depends on the last", _table(_CHAIN, 300, 1.0)),
                Case("300 characters at temperature 1.5", _table(_CHAIN, 300, 1.5), shown=False),
            ),
            followers,
        ),
        Requirement(
            "very large logits and small temperatures",
            (
                Case("one character leads by 10,000", _reader(3, 25, 1.0, lead=1e4)),
                Case("temperature 0.001, one character leads by 300", _reader(3, 25, 1e-3, lead=300.0)),
                Case("a temperature of one in a million", _reader(3, 25, 1e-6, pair=True, lead=50.0)),
                Case("temperature 0.001, one character leads by 0.1", _reader(3, 25, 1e-3, lead=0.1)),
                Case("temperature 100, one character leads by 10,000", _reader(3, 25, 100.0, lead=1e4)),
                Case(
                    "temperature 0.001, one character leads by 1, all near 1,000",
                    _reader(3, 25, 1e-3, lead=1.0, floor=1e3),
                    shown=False,
                ),
            ),
            written,
        ),
        Requirement(
            "all randomness comes from the generator",
            (
                Case("50 fair draws", _table(_FAIR, 50, 1.0)),
                Case("80 draws at temperature 2", _table(_FAIR, 80, 2.0), shown=False),
            ),
            randomness,
        ),
        Requirement(
            _ONCE,
            (
                Case("a prompt of 10, 50 characters", _reader(10, 50, 0.0)),
                Case("a prompt of one, 60 characters, drawn", _reader(1, 60, 0.5, lead=1e3)),
                Case(
                    "a prompt of 30, 40 characters, two tensors", _reader(30, 40, 0.0, pair=True), shown=False
                ),
            ),
            written_and_counted,
            bounds={
                "calls of step": Bound(
                    most=lambda inputs: len(inputs["prompt"]) + inputs["n"],
                    unit="calls of step",
                    why="The state holds what was read: no character needs to be read again.",
                    naive=lambda inputs: sum(len(inputs["prompt"]) + k for k in range(inputs["n"])),
                )
            },
        ),
        Requirement(
            "keeps no graph",
            (Case("20 characters with weights that require gradients", _reader(5, 20, 1.0)),),
            graph,
        ),
    ),
    mistakes=(
        Mistake(
            "You always take the most likely character. That is right at temperature 0 only: elsewhere draw from "
            "softmax(logits / temperature).",
            _always_largest,
        ),
        Mistake(
            "You multiply by the temperature. A high temperature makes the logits smaller: divide.",
            _multiplied,
        ),
        Mistake(
            "Your temperature has no effect: you do not use it, or you divide probabilities by it, which changes nothing once they "
            "are normalised. Divide the logits by it before the softmax.",
            _temperature_ignored,
        ),
        Mistake(
            "You take the softmax twice. Divide the logits, not the probabilities, by the temperature, then take one softmax.",
            _of_probabilities,
        ),
        Mistake("You divide by the temperature twice.", _squared),
        Mistake("At temperature 0 you draw. Asked is the character with the largest logit.", _zero_is_one),
        Mistake(
            "You keep the state after the prompt, and do not carry it on while you write: each step returns a new one.",
            _state_not_carried,
        ),
        Mistake(
            "While you write, every step gets the first state again. Hand it the state that the step before it returned.",
            _state_reset,
        ),
        Mistake(
            "You read the last character of the prompt only. Its other characters belong into the state.",
            _prompt_without_state,
        ),
        Mistake(
            "You read the first character of the prompt only. Let the step read them all.", _first_of_prompt
        ),
        Mistake(
            "The last character of the prompt is read twice: the logits after it are there already, draw from them before the next "
            "step.",
            _last_read_twice,
        ),
        Mistake("You return the prompt, too. Asked are the n new characters.", _with_prompt),
        Mistake(
            "You count the prompt among the n characters. Asked are n new ones, without the prompt.",
            _prompt_counted,
        ),
        Mistake(
            "Your text begins with the last character of the prompt. Append a character after it was drawn, not before it is read.",
            _last_of_prompt_first,
        ),
        Mistake("You write one character too many.", _one_too_many),
        Mistake(
            "The first character that you draw is not in your text. The logits after the prompt already give the first one.",
            _first_dropped,
        ),
        Mistake(
            "You append the character that was drawn, and let the step read the most likely one. It has to read what was written.",
            _largest_read,
        ),
        Mistake(
            "You draw all characters from the logits after the prompt. The step has to read each new character.",
            _same_logits,
        ),
        Mistake(
            "You do not use the generator that is handed in, but a global one, of torch, NumPy or Python. Hand `generator=generator` "
            "to torch.multinomial.",
            _global_generator,
        ),
        Mistake(
            "A second call with the same generator writes the same text again: you set its seed, or draw from a copy of it. Draw "
            "from the one that is handed in, so that it moves on.",
            _reset_generator,
        ),
        Mistake(
            "You draw from a generator of your own with a fixed seed, so that every call writes the same text. Use the one that is "
            "handed in.",
            _own_generator,
        ),
        Mistake(
            "The same seed does not give the same text: you draw from a generator of your own, or give the one that is handed in a "
            "new seed from the clock. Draw from the one that is handed in.",
            _seeded_by_the_clock,
        ),
        Mistake(
            "You set the seed of the global generator, and draw from it: every call writes the same text, and what others draw "
            "changes. Use the one that is handed in.",
            _global_seed_set,
        ),
        Mistake(
            "You call the step twice for each character, once for the logits and once for the state. One call returns both.",
            _called_twice,
            recognise=_calls_twice,
        ),
        Mistake(
            "You do not read the last character of the prompt before you write. The first new character comes after it.",
            _last_not_read,
        ),
        Mistake(
            "You take the most likely character as the first one, and draw from the second one on. Draw the first one, too.",
            _first_not_drawn,
        ),
        Mistake(
            "You add noise to the logits that is not Gumbel's: normal noise, say, or Gumbel's with the other sign. Their largest is "
            "then no draw from the softmax: use torch.multinomial (or the noise -log(-log(u)), with u uniform).",
            _normal_noise,
        ),
        Mistake(
            "You raise probabilities to the power 1 / temperature. At a low temperature all of them become 0, or those that were 0 "
            "stay so at a high one. Divide the logits before the softmax.",
            _power_of_probabilities,
        ),
        Mistake(
            "At temperature 0 you divide by a small number instead. Logits that are nearly equal are then drawn from: take the "
            "largest one.",
            _small_number_for_zero,
        ),
        Mistake(
            "You do not let the temperature fall below a small number. It may be one in a million: divide by the temperature itself.",
            _never_colder,
        ),
        Mistake(
            "You add a small number to the temperature. At temperature 0, logits that lead by less are then drawn from: ask whether "
            "the temperature is 0, and take the largest one.",
            _small_number_added,
        ),
        Mistake(
            "At temperature 0 you compare probabilities. The softmax rounds, and a small lead is lost in it: compare the logits.",
            _largest_probability,
        ),
        Mistake(
            "Your text has the dtype of the prompt. Asked is int64, whatever the prompt has.",
            _dtype_of_the_prompt,
        ),
        Mistake(
            "You read the prompt with gradients: its last state carries the graph of the whole prompt. Put torch.no_grad() around "
            "both loops.",
            _graph_of_the_prompt,
        ),
        Mistake(
            "You write with gradients: each state carries the graph of the characters written before. Put torch.no_grad() around "
            "both loops.",
            _graph_of_the_text,
        ),
        Mistake(
            "You detach the states, but the step still tracks gradients, and builds a graph for each character. Put "
            "torch.no_grad() around the loops.",
            _states_detached,
        ),
        Mistake(
            "You switch gradients on at the end, also where they were off before. Use torch.no_grad() as a decorator or in a with "
            "statement: it puts back what was.",
            _switched_on_at_the_end,
        ),
        Mistake(
            "You make a generator of your own for each character, so that the same number is drawn each time. Use the one that is "
            "handed in.",
            _seeded_inside,
        ),
        Mistake(
            "You read the whole text again for every new character: the cost grows with the square of its length. Carry the state.",
            _prefix_read_again,
            recognise=_reads_again,
        ),
        Mistake(
            "The text is right, but each state carries the graph of all steps before it: memory grows with every character. Put "
            "torch.no_grad() around the loop.",
            _graph_kept,
        ),
        Mistake(
            "You switch gradients off and leave them off, for everything after your function. Use torch.no_grad() as a decorator or "
            "in a with statement.",
            _switched_off_for_good,
        ),
    ),
)
