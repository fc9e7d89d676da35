"""Right answers in other styles, and lazy ones, for the exercises of receptive_field/02_probe."""

import copy
from functools import partial

import torch
from torch import fx, nn

from utils.reference.receptive_field import layer_reads, rf_bottom_up


def box_from_indices(net, x, unit):
    x = x.clone().requires_grad_(True)
    row, column = unit
    grad = torch.autograd.grad(net(x)[:, :, row, column].sum(), x)[0]
    where = grad.nonzero()
    if len(where) == 0:
        return None
    top, left = where[:, 2:].min(0).values.tolist()
    bottom, right = where[:, 2:].max(0).values.tolist()
    return [top, left, bottom, right]


def box_with_vjp(net, x, unit):
    out, pull = torch.func.vjp(net, x)
    seed = torch.zeros_like(out)
    seed[0, :, unit[0], unit[1]] = 1
    touched = pull(seed)[0].abs().amax((0, 1)) > 0
    rows = [y for y in range(x.shape[2]) if touched[y].any()]
    columns = [u for u in range(x.shape[3]) if touched[:, u].any()]
    return (min(rows), min(columns), max(rows), max(columns)) if rows else None


def box_with_loops(net, x, unit):
    image = x.detach().clone()
    image.requires_grad = True
    (grad,) = torch.autograd.grad(net(image)[0, :, unit[0], unit[1]].sum(), [image])
    box = None
    for y in range(x.shape[2]):
        for u in range(x.shape[3]):
            if any(float(value) != 0 for value in grad[0, :, y, u]):
                top, left, bottom, right = box or (y, u, y, u)
                box = min(top, y), min(left, u), max(bottom, y), max(right, u)
    return box


def opened_by_type(net):
    net = copy.deepcopy(net).to(torch.float64)
    net.train(False)
    for parent in list(net.modules()):
        for name, child in list(parent._modules.items()):
            if type(child) is nn.MaxPool2d:
                mean = nn.AvgPool2d(
                    child.kernel_size, child.stride, padding=child.padding, ceil_mode=child.ceil_mode
                )
                setattr(parent, name, mean)
            elif type(child) in (nn.ReLU, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
            elif type(child) in (nn.Conv2d, nn.ConvTranspose2d):
                nn.init.constant_(child.weight, 0.25)
                if child.bias is not None:
                    nn.init.constant_(child.bias, 0.0)
    return net


def opened_at_random(net):
    new = copy.deepcopy(net)
    new.double()
    new.eval()
    everywhere = new.named_modules(remove_duplicate=False)
    names = [name for name, module in everywhere if isinstance(module, nn.MaxPool2d)]
    for name in names:
        old = new.get_submodule(name)
        new.set_submodule(name, nn.AvgPool2d(old.kernel_size, old.stride, old.padding, old.ceil_mode))
    for module in new.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    with torch.no_grad():
        for name, parameter in new.named_parameters():
            owner = new.get_submodule(name.rpartition(".")[0])
            if name.endswith("bias"):
                parameter.zero_()
            elif isinstance(owner, nn.BatchNorm2d):
                parameter.fill_(1.0)
            else:
                parameter.uniform_(0.1, 0.2)
    return new


def centre_by_formula(rows, columns, unit):
    def axis(layers, u):
        place, jump = 0.0, 1
        for k, s, p, d in layers:
            place += (d * (k - 1) / 2 - p) * jump
            jump *= s
        return place + u * jump

    return [axis(rows, unit[0]), axis(columns, unit[1])]


def centre_of_ends(rows, columns, unit):
    ends = []
    for layers, u in zip((rows, columns), unit, strict=True):
        first = last = u
        for k, s, p, d in layers[::-1]:
            first, last = first * s - p, last * s - p + d * (k - 1)
        ends.append((first + last) / 2)
    return tuple(ends)


def centre_of_triples(rows, columns, unit):
    (r1, j1, a1), (r2, j2, a2) = rf_bottom_up(rows), rf_bottom_up(columns)
    return a1 + j1 * unit[0] + r1 / 2 - 0.5, a2 + j2 * unit[1] + r2 / 2 - 0.5


def depth_by_closed_form(rf, k, s):
    if rf <= 1:
        return 0
    if k == 1:
        raise ValueError("one tap sees one pixel")
    n = 0
    while 1 + (k - 1) * (n if s == 1 else (s**n - 1) // (s - 1)) < rf:
        n += 1
    return n


def depth_with_bits(rf, k, s):
    if rf == 1:
        return 0
    if k < 2:
        raise ValueError(k)
    steps = -(-(rf - 1) // (k - 1))  # the series has to reach this
    if s == 1:
        return steps
    depth, power = 0, 1
    while (power - 1) // (s - 1) < steps:
        depth, power = depth + 1, power * s
    return depth


def depth_recursive(rf, k, s):
    def more(seen, jump):
        return 0 if seen >= rf else 1 + more(seen + (k - 1) * jump, jump * s)

    if rf > 1 and k == 1:
        raise ValueError
    return more(1, 1)


class Sizes(fx.Interpreter):
    """An interpreter that notes the shape of every node."""

    def run_node(self, n):
        result = super().run_node(n)
        n.meta["shape"] = tuple(result.shape)
        return result


def table_by_interpreter(net, input_shape, field, axis=0, period=1):
    traced = fx.symbolic_trace(copy.deepcopy(net).train(False))
    Sizes(traced).run(torch.rand(2, *input_shape))
    table, graph = [], {}
    for node in traced.graph.nodes:
        if node.op != "output":
            graph[node.name] = (list(map(str, node.all_input_nodes)), layer_reads(node, traced, axis))
            ask = partial(field, dict(graph))
            widths = [last - first + 1 for first, last in map(ask, range(period))]
            jump = (ask(period)[1] - ask(0)[1]) / period
            table.append([node.name, node.meta["shape"][axis + 2], jump, max(widths), ask(0)[0]])
    return table


def table_with_hooks(net, input_shape, field, axis=0, period=1):
    """The graph grows by slices of one that is complete."""
    traced = fx.symbolic_trace(copy.deepcopy(net).eval())
    *nodes, _ = traced.graph.nodes
    whole = {n.name: ([i.name for i in n.all_input_nodes], layer_reads(n, traced, axis)) for n in nodes}
    values, rows = {}, []
    for count, node in enumerate(nodes, 1):
        if node.op == "placeholder":
            values[node] = torch.zeros(1, *input_shape)
        else:
            arguments = fx.node.map_arg(node.args, lambda n: values[n])
            call = traced.get_submodule(node.target) if node.op == "call_module" else node.target
            values[node] = call(*arguments, **fx.node.map_arg(node.kwargs, lambda n: values[n]))
        part = dict(list(whole.items())[:count])
        fields = [field(part, u) for u in range(2 * period)]
        rf = max(b - a for a, b in fields) + 1
        jump = (fields[period][0] - fields[0][0]) / period
        rows.append((node.name, values[node].shape[2 + axis], jump, rf, fields[0][0]))
    return rows


RIGHT = {
    "rf_by_gradient": [box_from_indices, box_with_vjp, box_with_loops],
    "open_paths": [opened_by_type, opened_at_random],
    "unit_center": [centre_by_formula, centre_of_ends, centre_of_triples],
    "min_depth_for": [depth_by_closed_form, depth_with_bits, depth_recursive],
    "rf_of_module": [table_by_interpreter, table_with_hooks],
}
LAZY = {
    "rf_by_gradient": [
        lambda net, x, unit: None,
        lambda net, x, unit: (0, 0, x.shape[2] - 1, x.shape[3] - 1),
        lambda net, x, unit: box_from_indices(net, torch.zeros_like(x), unit),
    ],
    "open_paths": [lambda net: net, lambda net: nn.Conv2d(1, 1, 3).double()],
    "unit_center": [
        lambda rows, columns, unit: (0.0, 0.0),
        lambda rows, columns, unit: (float(unit[0]), float(unit[1])),
    ],
    "min_depth_for": [
        lambda rf, k, s: 4,
        lambda rf, k, s: -(-(rf - 1) // max(k - 1, 1)),
        lambda rf, k, s: "ValueError" if k == 1 < rf else depth_with_bits(rf, k, s),
    ],
    "rf_of_module": [
        lambda net, shape, field, axis=0, period=1: [],
        lambda net, shape, field, axis=0, period=1: [("x", shape[1 + axis], 1.0, 1, 0)],
    ],
}
