"""The exercise ``rf_of_module`` of the lesson receptive_field/02_probe."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from autograde.exercise import Case, Draw, Exercise, Mistake, Requirement
from autograde.observe import Implementation, Inputs
from utils.reference import receptive_field as reference

Interval = tuple[int, int]
Reads = Callable[[int, int], Interval]
Graph = dict[str, tuple[list[str], Reads | None]]
Field = Callable[[Graph, int], Interval]
Row = tuple[str, int, float, int, int]
Shape = tuple[int, int, int]


class Branches(nn.Module):
    """Two branches with a stride, an addition, a function without a module, and a concatenation with a third one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 2, (5, 3), padding=(2, 1))
        self.long = nn.Sequential(
            nn.Conv2d(2, 2, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1)
        )
        self.short = nn.Conv2d(2, 2, 1, stride=2)
        self.aside = nn.MaxPool2d((7, 2), stride=2, padding=(3, 0))
        self.top = nn.Conv2d(4, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """One unit depends on all of them."""
        x = torch.relu(self.stem(x))
        both = self.long(x) + self.short(x)
        out: Tensor = self.top(torch.cat([both, self.aside(x)], 1))
        return out


class Hourglass(nn.Module):
    """Down twice and up twice, with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.down = nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2)
        self.bottom = nn.Conv2d(1, 1, 3, stride=2, padding=1)
        self.up1 = nn.ConvTranspose2d(1, 1, 2, stride=2)
        self.up2 = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1)
        self.right = nn.Conv2d(2, 1, (1, 3), padding=(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        """As large as the input."""
        skip = self.left(x)
        low = self.up1(self.bottom(self.down(skip)))
        out: Tensor = self.right(torch.cat([skip, self.up2(low)], 1))
        return out


def _build(kind: str) -> nn.Module:
    if kind == "stack":
        layers = [
            nn.Conv2d(3, 2, 5, stride=2, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(2, 2, 3, dilation=2),
        ]
        return nn.Sequential(*layers)
    if kind == "lopsided":
        return nn.Sequential(
            nn.ZeroPad2d((2, 0, 1, 0)), nn.Conv2d(1, 1, (2, 3)), nn.AvgPool2d((1, 2)), nn.Conv2d(1, 1, 3)
        )
    if kind == "finer":
        return nn.Sequential(
            nn.Conv2d(1, 1, 3, padding=1),
            nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1),
            nn.Conv2d(1, 1, 2),
        )
    if kind == "norm":
        return nn.Sequential(
            nn.Conv2d(1, 2, 3, stride=2), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(2)
        )
    if kind.startswith("threefold"):
        return nn.Sequential(nn.ConvTranspose2d(1, 1, 4, stride=3, padding=int(kind[-1])))
    return Branches() if kind == "branches" else Hourglass()


def field(graph: Graph, unit: int) -> Interval:
    """First and last pixel that a unit of the last node depends on."""
    names = list(graph)
    need = {names[-1]: (unit, unit)}
    for name in reversed(names):
        inputs, reads = graph[name]
        if name in need and reads is not None:
            low, high = reads(*need[name])
            for source in inputs:
                old = need.get(source, (low, high))
                need[source] = min(low, old[0]), max(high, old[1])
    return need[names[0]]


def _network(inputs: Inputs) -> nn.Module:
    net = _build(inputs["kind"])
    net.kind = inputs["kind"]
    return net


def table(implementation: Implementation, inputs: Inputs) -> Any:
    """The rows."""
    return implementation(_network(inputs), inputs["shape"], field, inputs["axis"], inputs["period"])


def short_table(implementation: Implementation, inputs: Inputs) -> Any:
    """The rows along the rows of the image, one unit in each: axis and period are left out."""
    return implementation(_network(inputs), inputs["shape"], field)


def table_and_network(implementation: Implementation, inputs: Inputs) -> Any:
    """The rows, and what is no longer as it was in the network: statistics, parameters, its mode."""
    net = _network(inputs)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    rows = implementation(net, inputs["shape"], field, inputs["axis"], inputs["period"])
    after = net.state_dict()
    return {
        "the rows": rows,
        "the numbers in the network": "as they were"
        if set(after) == set(before) and all(torch.equal(after[name], before[name]) for name in before)
        else "changed",
        "all of it in training mode, as it was": all(module.training for module in net.modules()),
    }


def _net(kind: str, shape: Shape, axis: int = 0, period: int = 1) -> Callable[[Draw], Inputs]:
    return lambda source: {"kind": kind, "shape": shape, "axis": axis, "period": period}


def _random_shape(source: Draw) -> Inputs:
    """An hourglass of another size."""
    side = 4 * source.integer(4, 7)
    return {"kind": "hourglass", "shape": (1, side, side + 8), "axis": 1, "period": 4}


def _widths(fields: list[Interval], period: int) -> list[int]:
    return [last - first + 1 for first, last in fields[:period]]


def _largest(fields: list[Interval], period: int) -> int:
    return max(_widths(fields, period))


def _smallest(fields: list[Interval], period: int) -> int:
    return min(_widths(fields, period))


def _ends(fields: list[Interval], period: int) -> int:
    return _largest(fields, period) - 1


def _union(fields: list[Interval], period: int) -> int:
    return max(last for _, last in fields[:period]) - min(first for first, _ in fields[:period]) + 1


@functools.cache
def _traced(kind: str, shape: Shape) -> fx.GraphModule:
    """A traced network with the shapes of its nodes. Mistakes share it: tracing is what takes time."""
    traced = fx.symbolic_trace(_build(kind))
    ShapeProp(traced).propagate(torch.zeros(1, *shape))
    return traced


def _rows(
    net: nn.Module,
    input_shape: Shape,
    field: Field,
    axis: int = 0,
    period: int = 1,
    *,
    skip: Callable[[fx.Node], bool] = lambda node: False,
    label: Callable[[fx.Node], str] = lambda node: str(node.name),
    size: Callable[[Any, int], int] = lambda shape, axis: int(shape[2 + axis]),
    jump: Callable[[list[Interval], int], float] = lambda fields, period: (
        (fields[period][0] - fields[0][0]) / period
    ),
    rf: Callable[[list[Interval], int], int] = _largest,
    start: Callable[[list[Interval], int], int] = lambda fields, period: fields[0][0],
    sources: Callable[[fx.Node], list[fx.Node]] = lambda node: node.all_input_nodes,
    whole_graph: bool = False,
    along: Callable[[int], int] = lambda axis: axis,
) -> list[Row]:
    """The answer, with switches for what goes wrong."""
    traced = _traced(str(net.kind), input_shape)
    nodes = [node for node in traced.graph.nodes if node.op != "output"]
    entries = {
        node.name: (
            [source.name for source in sources(node)],
            reference.layer_reads(node, traced, along(axis)),
        )
        for node in nodes
    }
    rows: list[Row] = []
    for at, node in enumerate(nodes):
        graph: Graph = entries if whole_graph else {key: entries[key] for key in list(entries)[: at + 1]}
        fields = [field(graph, unit) for unit in range(period + 1)]
        if not skip(node):
            shape = node.meta["tensor_meta"].shape
            rows.append(
                (
                    label(node),
                    size(shape, axis),
                    jump(fields, period),
                    rf(fields, period),
                    start(fields, period),
                )
            )
    return rows


def _mistaken(**options: Any) -> Callable[..., list[Row]]:
    def answer(net: nn.Module, input_shape: Shape, field: Field, axis: int = 0, period: int = 1) -> list[Row]:
        return _rows(net, input_shape, field, axis, period, **options)

    return answer


def _named(name: str, **options: Any) -> Callable[..., list[Row]]:
    answer = _mistaken(**options)
    answer.__name__ = name
    return answer


_no_input_row = _named("_no_input_row", skip=lambda node: node.op == "placeholder")
_modules_only = _named("_modules_only", skip=lambda node: node.op == "call_function")
_target_as_name = _named("_target_as_name", label=lambda node: str(node.target))
_size_of_rows = _named("_size_of_rows", size=lambda shape, axis: int(shape[2]))
_size_swapped = _named("_size_swapped", size=lambda shape, axis: int(shape[3 - axis]))
_size_off_by_one = _named("_size_off_by_one", size=lambda shape, axis: int(shape[1 + axis]))
_jump_of_one_step = _named(
    "_jump_of_one_step", jump=lambda fields, period: float(fields[1][0] - fields[0][0])
)
_jump_not_divided = _named(
    "_jump_not_divided", jump=lambda fields, period: float(fields[period][0] - fields[0][0])
)
_jump_floored = _named(
    "_jump_floored", jump=lambda fields, period: (fields[period][0] - fields[0][0]) // period
)
_first_unit_alone = _named("_first_unit_alone", rf=lambda fields, period: fields[0][1] - fields[0][0] + 1)
_smallest_unit = _named("_smallest_unit", rf=_smallest)
_distance = _named("_distance", rf=_ends)
_union_of_units = _named("_union_of_units", rf=_union)
_start_cut_off = _named("_start_cut_off", start=lambda fields, period: max(fields[0][0], 0))
_start_of_the_last = _named("_start_of_the_last", start=lambda fields, period: fields[period - 1][0])
_start_of_unit_one = _named("_start_of_unit_one", start=lambda fields, period: fields[1][0])
_first_source_only = _named("_first_source_only", sources=lambda node: node.all_input_nodes[:1])
_last_source_only = _named("_last_source_only", sources=lambda node: node.all_input_nodes[-1:])
_always_the_top = _named("_always_the_top", whole_graph=True)
_axis_ignored = _named("_axis_ignored", along=lambda axis: 0)
_axis_swapped = _named("_axis_swapped", along=lambda axis: 1 - axis)


def _in_training_mode(
    net: nn.Module, input_shape: Shape, field: Field, axis: int = 0, period: int = 1
) -> list[Row]:
    ShapeProp(fx.symbolic_trace(net)).propagate(torch.zeros(1, *input_shape))
    return _rows(net, input_shape, field, axis, period)


def _mode_changed(
    net: nn.Module, input_shape: Shape, field: Field, axis: int = 0, period: int = 1
) -> list[Row]:
    net.eval()
    return _rows(net, input_shape, field, axis, period)


rf_of_module = Exercise(
    reference.rf_of_module,
    requirements=(
        Requirement(
            "the table of a stack",
            (
                Case("a stack with strides and dilation", _net("stack", (3, 33, 41), 0)),
                Case("unequal kernels and padding, columns", _net("lopsided", (1, 14, 21), 1)),
            ),
            table,
            points=2,
        ),
        Requirement(
            "branches",
            (
                Case("addition and concatenation, columns", _net("branches", (2, 20, 16), 1)),
                Case("addition and concatenation, rows", _net("branches", (2, 20, 16), 0), shown=False),
            ),
            table,
            points=2,
        ),
        Requirement(
            "upsampling: the largest of a period",
            (
                Case("down and up twice, period 4, rows", _net("hourglass", (1, 12, 20), 0, 4)),
                Case("finer than the image, period 2", _net("finer", (1, 10, 12), 1, 2)),
                Case("stride 3, padding 0, period 3", _net("threefold 0", (1, 9, 8), 0, 3)),
                Case("stride 3, padding 1, period 3", _net("threefold 1", (1, 9, 8), 0, 3), shown=False),
                Case("stride 3, padding 2, period 3", _net("threefold 2", (1, 9, 8), 0, 3), shown=False),
                Case("another size", _random_shape, shown=False),
            ),
            table,
        ),
        Requirement(
            "the network is not changed",
            (
                Case("two batch norms, in training mode", _net("norm", (1, 15, 14), 1)),
                Case("two batch norms, rows", _net("norm", (1, 17, 11), 0), shown=False),
            ),
            table_and_network,
        ),
        Requirement(
            "axis 0 and period 1 when left out",
            (Case("two arguments less", _net("lopsided", (1, 14, 21))),),
            short_table,
        ),
    ),
    mistakes=(
        Mistake(
            "The input's row is missing. It comes first: jump 1, receptive field 1, start 0.", _no_input_row
        ),
        Mistake(
            "Rows are missing: additions, concatenations and functions such as torch.relu are nodes as well (op call_function).",
            _modules_only,
        ),
        Mistake(
            "You name the rows by node.target. Asked is node.name, which is different for every node.",
            _target_as_name,
        ),
        Mistake(
            "Your size is always the height. Along axis 1 it is the width: shape[2 + axis].", _size_of_rows
        ),
        Mistake(
            "Your sizes belong to the other axis. The shape is [batch, channels, height, width]: shape[2 + axis].",
            _size_swapped,
        ),
        Mistake(
            "Your size is one dimension off. The shape is [batch, channels, height, width]: shape[2 + axis].",
            _size_off_by_one,
        ),
        Mistake(
            "Your jump is the step from unit 0 to unit 1. After upsampling steps differ: take the first pixels of unit 0 and of unit "
            "`period`, and divide by period.",
            _jump_of_one_step,
        ),
        Mistake("You did not divide the way from unit 0 to unit `period` by period.", _jump_not_divided),
        Mistake(
            "You divide with //, which cuts the fraction of a jump off. After upsampling it may be a half: use /.",
            _jump_floored,
        ),
        Mistake(
            "Your receptive field is that of unit 0. After upsampling units differ: take the largest of a period.",
            _first_unit_alone,
        ),
        Mistake("You take the smallest receptive field of a period. Asked is the largest.", _smallest_unit),
        Mistake("Your receptive field is one too small: last - first + 1.", _distance),
        Mistake(
            "You join the receptive fields of all units of a period. Asked is the largest of a single unit.",
            _union_of_units,
        ),
        Mistake("You cut the start off at 0. In the padding it is negative.", _start_cut_off),
        Mistake(
            "Your start is that of the last unit of the period. Asked is that of unit 0.", _start_of_the_last
        ),
        Mistake("Your start is that of unit 1. Asked is that of unit 0.", _start_of_unit_one),
        Mistake(
            "You use the first input of each node only. node.all_input_nodes has all of them.",
            _first_source_only,
        ),
        Mistake(
            "You use the last input of each node only. node.all_input_nodes has all of them.",
            _last_source_only,
        ),
        Mistake(
            "All your rows tell about the last node. field() looks at the last node of the graph that it gets: add nodes one at a "
            "time, and ask each time.",
            _always_the_top,
        ),
        Mistake(
            "Your layers read along the rows whatever the axis is. Hand `axis` on to layer_reads.",
            _axis_ignored,
        ),
        Mistake(
            "Your image runs through the network in training mode, and moves the statistics of its batch norms. Trace "
            "copy.deepcopy(net).eval().",
            _in_training_mode,
        ),
        Mistake(
            "You leave the network in evaluation mode: eval() changes it. Copy it first: copy.deepcopy(net).eval().",
            _mode_changed,
        ),
        Mistake(
            "Your layers read along the other axis. Hand `axis` on to layer_reads as it is.", _axis_swapped
        ),
    ),
)
