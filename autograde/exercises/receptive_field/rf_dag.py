"""The exercise ``rf_dag`` of the lesson receptive_field/01_formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from autograde.exercise import Bound, Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Implementation, Inputs, Observation
from utils.reference import receptive_field as reference

Interval = tuple[int, int]
Reads = Callable[[int, int], Interval]
Graph = dict[str, tuple[list[str], Reads | None]]
Node = tuple[str, list[str], tuple[int, ...]]
"""Name, inputs, and the geometry: () for the image, (k, s, p) for a convolution, (k, s, p, 0) for a transposed one."""

_ONCE = "asks every layer once"
_CALLS = "questions to layers"


class Asked:
    """The layers of a graph, which count how often they are asked."""

    def __init__(self, nodes: list[Node]) -> None:
        self.calls = 0
        self.graph: Graph = {
            name: (list(inputs), self._reads(*shape) if shape else None) for name, inputs, shape in nodes
        }

    def _reads(self, k: int, s: int, p: int, up: int = 1) -> Reads:
        def reads(first: int, last: int) -> Interval:
            self.calls += 1
            if not up:
                return -((k - 1 - first - p) // s), (last + p) // s
            return first * s - p, last * s - p + k - 1

        return reads


def depends_on(implementation: Implementation, inputs: Inputs) -> Any:
    """The pixels that a unit depends on, where the graph is left as it was."""
    graph = Asked(inputs["nodes"]).graph
    value = implementation(graph, inputs["unit"])
    as_it_was = [(name, sources) for name, sources, _ in inputs["nodes"]]
    return (
        value
        if [(name, entry[0]) for name, entry in graph.items()] == as_it_was
        else {"the graph": "changed"}
    )


def counted(implementation: Implementation, inputs: Inputs) -> dict[str, Any]:
    """The same, and how often layers were asked, or what is enough where it was less."""
    asked = Asked(inputs["nodes"])
    value = implementation(asked.graph, inputs["unit"])
    return {"value": value, _CALLS: max(asked.calls, _enough(inputs))}


def _enough(inputs: Inputs) -> int:
    """Once for each input of each node, and for either end of the interval by itself."""
    return 2 * sum(len(node[1]) for node in inputs["nodes"])


def _paths(inputs: Inputs) -> int:
    """Questions that are asked when every path is followed by itself."""
    paths: dict[str, int] = {}
    for name, sources, _ in reversed(inputs["nodes"]):
        paths.setdefault(name, 1)
        for source in sources:
            paths[source] = paths.get(source, 0) + paths[name]
    return sum(paths[name] * len(sources) for name, sources, _ in inputs["nodes"])


IMAGE: Node = ("image", [], ())
CHAIN: list[Node] = [
    ("photo", [], ()),
    ("a", ["photo"], (5, 2, 1)),
    ("b", ["a"], (3, 3, 0)),
    ("c", ["b"], (2, 1, 1)),
]
RESIDUAL: list[Node] = [
    IMAGE,
    ("stem", ["image"], (7, 2, 3)),
    ("conv1", ["stem"], (3, 2, 1)),
    ("conv2", ["conv1"], (3, 1, 1)),
    ("short", ["stem"], (1, 2, 0)),
    ("sum", ["short", "conv2"], (1, 1, 0)),
    ("out", ["sum"], (3, 1, 1)),
]
INCEPTION: list[Node] = [
    IMAGE,
    ("in", ["image"], (3, 2, 0)),
    ("five", ["in"], (5, 1, 2)),
    ("one", ["in"], (1, 1, 0)),
    ("three", ["in"], (3, 1, 1)),
    ("cat", ["one", "five", "three"], (1, 1, 0)),
]
LOPSIDED: list[Node] = [
    IMAGE,
    ("left", ["image"], (4, 1, 3)),
    ("right", ["image"], (6, 1, 0)),
    ("cat", ["left", "right"], (1, 1, 0)),
    ("out", ["cat"], (2, 2, 0)),
]
DEAD_END: list[Node] = [
    IMAGE,
    ("a", ["image"], (3, 1, 1)),
    ("aside", ["a"], (9, 2, 4)),
    ("aside2", ["aside", "image"], (9, 1, 4)),
    ("b", ["a"], (3, 2, 1)),
]
HOURGLASS: list[Node] = [
    IMAGE,
    ("left", ["image"], (3, 1, 1)),
    ("down", ["left"], (2, 2, 0)),
    ("bottom", ["down"], (3, 1, 1)),
    ("up", ["bottom"], (4, 2, 1, 0)),
    ("cat", ["up", "left"], (1, 1, 0)),
    ("right", ["cat"], (3, 1, 1)),
]


def _graph(nodes: list[Node], unit: int) -> Callable[[Draw], Inputs]:
    return lambda source: {"nodes": nodes, "unit": unit}


def _blocks(count: int) -> list[Node]:
    """Residual blocks, one behind the other."""
    nodes: list[Node] = [IMAGE]
    for _ in range(count):
        at = len(nodes)
        last = nodes[-1][0]
        nodes.append((f"conv{at}", [last], (3, 1, 1)))
        nodes.append((f"sum{at}", [last, f"conv{at}"], (1, 1, 0)))
    return nodes


def _random(source: Draw) -> Inputs:
    """Layers without stride in a random order of branches; the last one joins three of them."""
    nodes: list[Node] = [IMAGE]
    for at in range(source.integer(4, 8)):
        known = [node[0] for node in nodes]
        inputs = sorted({known[source.integer(0, at)], known[source.integer(0, at)]})
        nodes.append((f"n{at}", inputs, (source.integer(2, 6), 1, source.integer(0, 4))))
    ends = [nodes[1][0], nodes[-2][0], nodes[-1][0]]
    nodes.append(("join", ends, (2, 3, 1)))
    return {"nodes": nodes, "unit": source.integer(5, 20)}


def _walk(
    graph: Graph,
    unit: int,
    merge: Callable[[Interval, Interval], Interval],
    order: Callable[[list[str]], list[str]] = list,
) -> Interval:
    """From the top to the image, with the rule for a node that several others read."""
    names = list(graph)
    need = {names[-1]: (unit, unit)}
    for name in reversed(names):
        inputs, reads = graph[name]
        if name in need and reads is not None:
            found = reads(*need[name])
            for source in order(inputs):
                need[source] = merge(need[source], found) if source in need else found
    return need[names[0]]


def _union(a: Interval, b: Interval) -> Interval:
    return min(a[0], b[0]), max(a[1], b[1])


def _last_wins(graph: Graph, unit: int) -> Interval:
    return _walk(graph, unit, lambda old, new: new)


def _first_wins(graph: Graph, unit: int) -> Interval:
    return _walk(graph, unit, lambda old, new: old)


def _widest(graph: Graph, unit: int) -> Interval:
    return _walk(graph, unit, lambda old, new: new if new[1] - new[0] > old[1] - old[0] else old)


def _narrowest(graph: Graph, unit: int) -> Interval:
    return _walk(graph, unit, lambda old, new: new if new[1] - new[0] < old[1] - old[0] else old)


def _common(graph: Graph, unit: int) -> Interval:
    return _walk(graph, unit, lambda a, b: (max(a[0], b[0]), min(a[1], b[1])))


def _widths_added(graph: Graph, unit: int) -> Interval:
    return _walk(graph, unit, lambda a, b: (a[0], a[1] + b[1] - b[0] + 1))


def _first_branch(graph: Graph, unit: int) -> Interval:
    return _walk(graph, unit, _union, lambda inputs: inputs[:1])


def _last_branch(graph: Graph, unit: int) -> Interval:
    return _walk(graph, unit, _union, lambda inputs: inputs[-1:])


def _unit_ignored(graph: Graph, unit: int) -> Interval:
    return _walk(graph, 0, _union)


def _width(graph: Graph, unit: int) -> int:
    first, last = _walk(graph, unit, _union)
    return last - first + 1


def _first_and_width(graph: Graph, unit: int) -> Interval:
    first, last = _walk(graph, unit, _union)
    return first, last - first + 1


def _end_excluded(graph: Graph, unit: int) -> Interval:
    first, last = _walk(graph, unit, _union)
    return first, last + 1


def _cut_off(graph: Graph, unit: int) -> Interval:
    first, last = _walk(graph, unit, _union)
    return max(first, 0), last


def _from_the_image(graph: Graph, unit: int) -> Interval:
    names = list(graph)
    field = {names[0]: (unit, unit)}
    for name in names[1:]:
        inputs, reads = graph[name]
        found = field[inputs[0]]
        for source in inputs[1:]:
            found = _union(found, field[source])
        field[name] = found if reads is None else reads(*found)
    return field[names[-1]]


def _every_node_needed(graph: Graph, unit: int) -> Interval:
    names = list(graph)
    need = dict.fromkeys(names, (unit, unit))
    for name in reversed(names):
        inputs, reads = graph[name]
        if reads is not None:
            for source in inputs:
                need[source] = _union(need[source], reads(*need[name]))
    return need[names[0]]


def _dead_ends_followed(graph: Graph, unit: int) -> Interval:
    names = list(graph)
    need: dict[str, Interval] = {}
    for name in reversed(names):
        inputs, reads = graph[name]
        if reads is not None:
            for source in inputs:
                found = reads(*need.get(name, (unit, unit)))
                need[source] = _union(need[source], found) if source in need else found
    return need[names[0]]


def _called_image(graph: Graph, unit: int) -> Interval:
    need = {list(graph)[-1]: (unit, unit)}
    for name in reversed(graph):
        inputs, reads = graph[name]
        if name in need and reads is not None:
            found = reads(*need[name])
            for source in inputs:
                need[source] = _union(need[source], found) if source in need else found
    return need["image"]


def _eaten(graph: Graph, unit: int) -> Interval:
    found = _walk(graph, unit, _union)
    graph.popitem()
    return found


def _no_image(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """A KeyError where the first node has another name, and nowhere else."""
    stopped = [(key[1], entry.raised.kind) for key, entry in observed.items() if entry.raised is not None]
    return stopped == [("three layers in a row", "KeyError")]


def _every_path(graph: Graph, unit: int) -> Interval:
    def follow(name: str, first: int, last: int) -> Interval:
        inputs, reads = graph[name]
        if reads is None:
            return first, last
        fields = [follow(source, *reads(first, last)) for source in inputs]
        return min(low for low, _ in fields), max(high for _, high in fields)

    return follow(list(graph)[-1], unit, unit)


def _follows_paths(observed: Mapping[tuple[str, str], Observation]) -> bool:
    """Only the questions are too many."""
    wrong = [
        key[0]
        for key, entry in observed.items()
        if entry.raised is not None
        or (key[1] == "an inception block with three branches" and entry.value != (6, 16))
        or (key[1] == "a lopsided pair of branches" and entry.value != (3, 12))
    ]
    counts: list[Any] = [
        entry.value[_CALLS]
        for key, entry in observed.items()
        if key[0] == _ONCE and type(entry.value) is dict
    ]
    return not wrong and bool(counts) and all(count > 200 for count in counts)


rf_dag = Exercise(
    reference.rf_dag,
    requirements=(
        Requirement(
            "the pixels that a unit depends on",
            (
                Case("three layers in a row", _graph(CHAIN, 2)),
                Case("a residual block with strides", _graph(RESIDUAL, 3)),
                Case("an inception block with three branches", _graph(INCEPTION, 5)),
                Case("a lopsided pair of branches", _graph(LOPSIDED, 3)),
                Case("a node that leads nowhere", _graph(DEAD_END, 4)),
                Case("down, up, and a skip connection", _graph(HOURGLASS, 9)),
                Case("a residual block, unit 0", _graph(RESIDUAL, 0)),
                Case("the image alone", _graph([IMAGE], 7)),
                Case("a graph drawn at random", _random, shown=False),
            ),
            depends_on,
            points=2,
        ),
        Requirement(
            _ONCE,
            (
                Case("7 residual blocks", _graph(_blocks(7), 3)),
                Case("8 residual blocks", _graph(_blocks(8), 3), shown=False),
            ),
            counted,
            bounds={
                _CALLS: Bound(
                    most=_enough,
                    unit=_CALLS,
                    why="A node that several others read needs the union of what they need: collect it, then ask the node's layer once.",
                    naive=_paths,
                )
            },
        ),
    ),
    mistakes=(
        Mistake(
            "Where two nodes read the same one, the one that you visit last wins. Take the union: the smaller first and the "
            "larger last.",
            _last_wins,
        ),
        Mistake(
            "Where two nodes read the same one, you keep what the first visit found. Take the union: the smaller first and the "
            "larger last.",
            _first_wins,
        ),
        Mistake(
            "You keep the widest branch. Branches may reach further on different sides: take the smaller first and the larger last.",
            _widest,
        ),
        Mistake(
            "You keep the narrowest branch. A unit depends on everything that any branch reads.", _narrowest
        ),
        Mistake(
            "You take what the branches have in common. A unit depends on everything that any branch reads: the smaller "
            "first and the larger last.",
            _common,
        ),
        Mistake(
            "You add the widths of branches. They overlap: take the smaller first and the larger last.",
            _widths_added,
        ),
        Mistake("You follow only the first input of a node. All inputs of a node are read.", _first_branch),
        Mistake("You follow only the last input of a node. All inputs of a node are read.", _last_branch),
        Mistake("You ask for unit 0. Start at the unit that is given.", _unit_ignored),
        Mistake("You return the width. Asked are the first and the last pixel.", _width),
        Mistake(
            "You return the first pixel and the width. Asked are the first and the last pixel.",
            _first_and_width,
        ),
        Mistake(
            "Your last pixel is one too far: the last pixel itself belongs to the interval.", _end_excluded
        ),
        Mistake("You cut the interval off at pixel 0. Positions in the padding count here.", _cut_off),
        Mistake(
            "You go from the image to the top. A layer says what it reads below it: begin at the last node and go down.",
            _from_the_image,
        ),
        Mistake(
            "You begin with the unit at every node. Only the last node's unit is asked for; a node needs what its readers read.",
            _every_node_needed,
        ),
        Mistake(
            "You follow nodes that do not lead to the last one. What nobody needs is not asked.",
            _dead_ends_followed,
        ),
        Mistake(
            "You changed the graph that came in: it belongs to the caller, who may ask again. Work on a list of its names, or on a copy.",
            _eaten,
        ),
        Mistake(
            "You look for a node of the name 'image'. The image is the first node, whatever its name is.",
            _called_image,
            recognise=_no_image,
        ),
        Mistake(
            "You follow every path by itself, and their number doubles with each block. Visit the nodes from the last to the "
            "first, collect what each needs, and ask its layer once.",
            _every_path,
            recognise=_follows_paths,
        ),
    ),
    returns=("the first pixel", "the last pixel"),
)
