"""Right answers in other styles, and lazy ones, for the exercises of receptive_field/01_formulas."""

import functools
import math


def taps(k, d):
    return range(0, k * d, d)[-1] + 1


def holes_and_taps(k, d):
    return k + (k - 1) * (d - 1)


def minus_rest(k, d):
    return k * d - d + 1


def expanded(layers):
    """m s + (K - s), the stride times the width, then the kernel less the stride."""
    m = 1
    for k, s, _, d in layers[::-1]:
        m = m * s + (k - 1) * d + 1 - s
    return m


def horner(layers):
    steps = functools.reduce(
        lambda steps, layer: steps * layer[1] + layer[3] * (layer[0] - 1), reversed(layers), 0
    )
    return steps + 1


def recursive(layers):
    if not layers:
        return 1
    (k, s, _, d), *above = layers
    return (recursive(above) - 1) * s + d * (k - 1) + 1


def term_by_term(layers):
    return 1 + sum(
        d * (k - 1) * math.prod(s for _, s, _, _ in layers[:at]) for at, (k, _, _, d) in enumerate(layers)
    )


def pixel_sets(layers):
    units = {0}
    for k, s, _, d in reversed(layers):
        units = {u * s + tap * d for u in (min(units), max(units)) for tap in range(k)}
    return max(units) - min(units) + 1


def triple_by_intervals(layers):
    def field(unit):
        first = last = unit
        for k, s, p, d in reversed(layers):
            first, last = first * s - p, last * s - p + d * (k - 1)
        return first, last

    (a, b), (c, _) = field(0), field(1)
    return b - a + 1, c - a, a


def triple_as_list(layers):
    rf, jump, start = 1, 1, 0
    for layer in layers:
        kernel, stride, padding, dilation = layer
        rf = rf + dilation * (kernel - 1) * jump
        start = start - jump * padding
        jump = jump * stride
    return [rf, jump, start]


def triple_by_sums(layers):
    jumps = [1]
    for _, s, _, _ in layers:
        jumps.append(jumps[-1] * s)
    rf = 1 + sum((k - 1) * d * j for (k, _, _, d), j in zip(layers, jumps, strict=False))
    return rf, jumps[-1], -sum(p * j for (_, _, p, _), j in zip(layers, jumps, strict=False))


def geometric(n, k, s, d):
    if s == 1:
        return n * d * (k - 1) + 1
    return d * (k - 1) * (s**n - 1) // (s - 1) + 1


def geometric_divmod(n, k, s, d):
    series, rest = divmod(pow(s, n) - 1, s - 1) if s > 1 else (n, 0)
    assert rest == 0
    return 1 + series * d * (k - 1)


def binary_powers(n, k, s, d):
    """The series by doubling, in as many steps as n has bits."""

    def series(terms):
        if terms == 0:
            return 0
        half = series(terms // 2)
        both = half * (1 + s ** (terms // 2))
        return both * s + 1 if terms % 2 else both

    return 1 + d * (k - 1) * series(n)


def talkative(n, k, s, d):
    print(f"{n} layers of kernel {k}")
    return 1 + d * (k - 1) * (n if s == 1 else (s**n - 1) // (s - 1))


def with_ceil(k, s, p, first, last):
    return math.ceil((first + p - (k - 1)) / s), math.floor((last + p) / s)


def searched(k, s, p, first, last):
    touching = [i for i in range(-200, 200) if i * s - p <= last and i * s - p + k - 1 >= first]
    return min(touching), max(touching)


def with_rest(k, s, p, first, last):
    low = first + p - k + 1
    return low // s + (low % s > 0), (last + p - (last + p) % s) // s


def readers_first(graph, unit):
    """For every node, from the top: the union of what its readers read."""
    names = list(graph)
    need, asked = {names[-1]: (unit, unit)}, {}
    for name in names[::-1]:
        wanted = [asked[reader] for reader in names if reader in asked and name in graph[reader][0]]
        if wanted:
            need[name] = min(a for a, _ in wanted), max(b for _, b in wanted)
        if name in need and graph[name][1]:
            asked[name] = graph[name][1](*need[name])
    return need[names[0]]


def firsts_and_lasts(graph, unit):
    items = list(graph.items())
    first, last = {items[-1][0]: unit}, {items[-1][0]: unit}
    while items:
        name, (inputs, reads) = items.pop()
        if name not in first or reads is None:
            continue
        low, high = reads(first[name], last[name])
        for source in inputs:
            first[source] = min(first.get(source, low), low)
            last[source] = max(last.get(source, high), high)
    image = next(iter(graph))
    return first[image], last[image]


def recursive_with_memory(graph, unit):
    top = list(graph)[-1]
    readers = {name: [other for other, (inputs, _) in graph.items() if name in inputs] for name in graph}

    @functools.cache
    def read(name):
        interval = need(name)
        return None if interval is None else graph[name][1](*interval)

    @functools.cache
    def need(name):
        if name == top:
            return unit, unit
        fields = [field for field in map(read, readers[name]) if field is not None]
        return (min(low for low, _ in fields), max(high for _, high in fields)) if fields else None

    return need(next(iter(graph)))


def either_end_by_itself(graph, unit):
    names = list(graph)
    need = {names[-1]: (unit, unit)}
    for name in reversed(names):
        inputs, reads = graph[name]
        for source in inputs if name in need else []:
            first, last = reads(*need[name])[0], reads(*need[name])[1]
            low, high = need.get(source, (first, last))
            need[source] = min(low, first), max(high, last)
    return need[names[0]]


def sum_of_mapped_powers(n, k, s, d):
    """A loop without a line of its own."""
    return 1 + d * (k - 1) * sum(map(pow, [s] * n, range(n)))


RIGHT = {
    "effective_kernel": [taps, holes_and_taps, minus_rest],
    "rf_top_down": [expanded, horner, recursive, term_by_term, pixel_sets],
    "rf_bottom_up": [triple_by_intervals, triple_as_list, triple_by_sums],
    "rf_equal_layers": [geometric, geometric_divmod, binary_powers, talkative],
    "upsampling_reads": [with_ceil, searched, with_rest],
    "rf_dag": [readers_first, firsts_and_lasts, recursive_with_memory, either_end_by_itself],
}
LAZY = {
    "effective_kernel": [lambda k, d: 3, lambda k, d: k + d],
    "rf_top_down": [lambda layers: 1, lambda layers: 195, lambda layers: 1 + 2 * len(layers)],
    "rf_bottom_up": [lambda layers: (1, 1, 0), lambda layers: (195, 32, -42)],
    "rf_equal_layers": [lambda n, k, s, d: 1 + n * (k - 1), lambda n, k, s, d: s**n, sum_of_mapped_powers],
    "upsampling_reads": [lambda k, s, p, first, last: (first, last)],
    "rf_dag": [lambda graph, unit: (unit, unit), lambda graph, unit: (0, 0)],
}
