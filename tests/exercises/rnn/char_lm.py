"""Right answers in other styles, and lazy or cheating ones, for the exercises of the notebook rnn/04_char_lm.

``RIGHT`` must get full marks. ``LAZY`` must not: answers that nobody needs a sentence for.
"""

import collections
import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum


def bits_with_logsumexp(logits, y):
    right = torch.take_along_dim(logits, y.unsqueeze(-1), dim=-1).squeeze(-1)
    return ((logits.logsumexp(-1) - right) / math.log(2)).mean()


def bits_with_one_hot(logits, y):
    log2_p = F.log_softmax(logits, dim=2) * math.log2(math.e)
    return -einsum(log2_p, F.one_hot(y, logits.shape[2]).to(log2_p), "b t v, b t v -> ") / y.numel()


def bits_in_base_two(logits, y):
    """Powers of two in float64, with the largest logit subtracted by hand."""
    z = logits.double() / math.log(2)
    z = z - z.amax(-1, keepdim=True).detach()
    cost = torch.log2(torch.exp2(z).sum(-1)) - z.gather(-1, y[:, :, None])[:, :, 0]
    return cost.mean().to(logits.dtype)


def bits_in_loops(logits, y):
    costs = []
    for b in range(y.shape[0]):
        for t in range(y.shape[1]):
            row = logits[b, t]
            costs.append(torch.log1p((row - row.max()).exp().sum() - 1) + row.max() - row[y[b, t]])
    return torch.stack(costs).sum() / (len(costs) * np.log(2))


def bits_with_fancy_indices(logits, y):
    flat = logits.reshape(-1, logits.size(-1)).log_softmax(-1)
    print("a print is not an error")
    return -flat[torch.arange(len(flat), device=flat.device), y.flatten()].mean() / torch.log(
        torch.tensor(2.0)
    ).to(flat)


def bits_of_a_distribution(logits, y):
    return -torch.distributions.Categorical(logits=logits).log_prob(y).mean() / math.log(2)


def bits_of_differences(logits, y):
    """log of the sum of exp(z_b - z_y)."""
    return (logits - logits.gather(-1, y[..., None])).logsumexp(-1).mean() / math.log(2)


def bits_with_vmap(logits, y):
    cost = torch.vmap(torch.vmap(lambda z, k: z.logsumexp(0) - z.gather(0, k[None])[0]))
    return cost(logits, y).mean() / math.log(2)


def bits_by_logaddexp(logits, y):
    total = logits[..., 0]
    for k in range(1, logits.shape[-1]):
        total = torch.logaddexp(total, logits[..., k])
    return (total - logits.take_along_dim(y[..., None], -1)[..., 0]).mean() / math.log(2)


def bigram_in_dicts(train, val, symbols):
    train, val = train.tolist(), val.tolist()
    pairs = collections.Counter(itertools.pairwise(train))
    firsts = collections.Counter(train[:-1])
    costs = [-math.log2((pairs[a, b] + 1) / (firsts[a] + symbols)) for a, b in itertools.pairwise(val)]
    return sum(costs) / len(costs)


def bigram_in_numpy(train, val, symbols):
    counts = np.ones((symbols, symbols))
    t, v = train.numpy(), val.numpy()
    np.add.at(counts, (t[:-1], t[1:]), 1)
    return np.mean(np.log2(counts.sum(1)[v[:-1]]) - np.log2(counts[v[:-1], v[1:]]))


def bigram_in_float32(train, val, symbols):
    counts = torch.ones(symbols, symbols)
    counts.index_put_((train[:-1], train[1:]), torch.ones(len(train) - 1), accumulate=True)
    rows = counts[val[:-1]]
    return (rows.sum(1).log2() - rows.gather(1, val[1:, None])[:, 0].log2()).mean()


def bigram_by_one_hot(train, val, symbols):
    one_hot = F.one_hot(train, symbols).double()
    log_p = (one_hot[:-1].T @ one_hot[1:] + 1).log()
    log_p = log_p - log_p.logsumexp(1, keepdim=True)
    held_out = F.one_hot(val, symbols).double()
    return float(-(held_out[:-1].T @ held_out[1:] * log_p).sum() / math.log(2) / (val.numel() - 1))


def bigram_added_up_in_float32(train, val, symbols):
    """One cost after the other: the rounding errors of thousands of sums."""
    counts = torch.ones(symbols, symbols)
    counts.index_put_((train[:-1], train[1:]), torch.tensor(1.0), accumulate=True)
    cost, total = -(counts / counts.sum(1, keepdim=True)).log2(), torch.zeros(())
    for a, b in itertools.pairwise(val.tolist()):
        total = total + cost[a, b]
    return (total / (len(val) - 1)).item()


def bigram_by_histogram(train, val, symbols):
    edges = np.arange(symbols + 1) - 0.5
    counts = np.histogram2d(train[:-1].numpy(), train[1:].numpy(), bins=[edges, edges])[0] + 1
    p = counts / counts.sum(axis=1, keepdims=True)
    return float(-np.log2(p[val[:-1].numpy(), val[1:].numpy()]).mean())


def entropy_in_dicts(ids, symbols):
    ids = ids.tolist()
    followers = collections.defaultdict(collections.Counter)
    for a, b in itertools.pairwise(ids):
        followers[a][b] += 1
    total = 0.0
    for row in followers.values():
        n = sum(row.values())
        total += sum(count * math.log2(n / count) for count in row.values())
    return total / (len(ids) - 1)


def entropy_as_a_difference(ids, symbols):
    """H(pair) - H(current)."""

    def entropy(counts):
        p = counts[counts > 0].double() / counts.sum()
        return -(p * p.log2()).sum().item()

    pairs = torch.bincount(ids[:-1] * symbols + ids[1:])
    return entropy(pairs) - entropy(torch.bincount(ids[:-1]))


def entropy_as_a_mean_cost(ids, symbols):
    counts = torch.zeros(symbols, symbols, dtype=torch.float64)
    for a, b in itertools.pairwise(ids):
        counts[a, b] += 1
    p = (counts / counts.sum(1, keepdim=True))[ids[:-1], ids[1:]]
    return -p.log2().mean()


def entropy_with_xlogy(ids, symbols):
    counts = (
        torch.bincount(ids[:-1] * symbols + ids[1:], minlength=symbols**2).view(symbols, symbols).double()
    )
    bits = torch.xlogy(counts.sum(1), counts.sum(1)).sum() - torch.xlogy(counts, counts).sum()
    return bits.abs() / counts.sum() / math.log(2)


def entropy_with_a_tiny_number(ids, symbols):
    """1e-12 inside the logarithm and beside the sums changes nothing that anybody could see."""
    counts = torch.zeros(symbols, symbols, dtype=torch.float64)
    counts.index_put_((ids[:-1], ids[1:]), torch.tensor(1.0, dtype=torch.float64), accumulate=True)
    f = counts / (counts.sum(1, keepdim=True) + 1e-12)
    return -(counts * (f + 1e-12).log2()).sum().item() / (len(ids) - 1)


def entropy_as_a_difference_in_float32(ids, symbols):
    counts = torch.bincount(ids[:-1] * symbols + ids[1:], minlength=symbols**2).view(symbols, symbols)
    p = counts / counts.sum()
    return (torch.special.entr(p).sum() - torch.special.entr(p.sum(1)).sum()).item() / math.log(2)


def entropy_added_up_in_float32(ids, symbols):
    counts = torch.zeros(symbols, symbols)
    for a, b in itertools.pairwise(ids.tolist()):
        counts[a, b] += 1
    cost, total = -(counts / counts.sum(1, keepdim=True)).log2(), torch.zeros(())
    for a, b in itertools.pairwise(ids.tolist()):
        total = total + cost[a, b]
    return total / (len(ids) - 1)


def entropy_of_a_distribution(ids, symbols):
    counts = (
        torch.bincount(ids[:-1] * symbols + ids[1:], minlength=symbols**2).view(symbols, symbols).double()
    )
    n = counts.sum(1)
    rows = torch.distributions.Categorical(probs=counts[n > 0]).entropy()
    return float((rows * n[n > 0]).sum() / n.sum() / math.log(2))


def batch_in_a_loop(ids, batch, time, generator):
    xs, ys = [], []
    for _ in range(batch):
        i = int(torch.randint(0, ids.numel() - time, (1,), generator=generator))
        xs.append(ids[i : i + time])
        ys.append(ids[i + 1 : i + time + 1])
    return torch.stack(xs), torch.stack(ys)


def batch_unfolded(ids, batch, time, generator):
    windows = ids.unfold(0, time + 1, 1)
    chosen = windows[torch.randint(windows.shape[0], (batch,), generator=generator)]
    return [chosen[:, :time], chosen[:, 1:]]


def batch_by_multinomial(ids, batch, time, generator):
    begin = torch.multinomial(torch.ones(len(ids) - time), batch, replacement=True, generator=generator)
    x = torch.stack([ids[begin + k] for k in range(time)], dim=1)
    return x, torch.stack([ids[begin + k + 1] for k in range(time)], dim=1)


def batch_from_uniforms(ids, batch, time, generator):
    u = torch.rand(batch, 1, generator=generator, dtype=torch.float64)
    place = (u * (len(ids) - time)).long() + torch.arange(time)[None]
    return torch.take(ids, place), torch.take(ids, place + 1)


def batch_seeded_from_the_generator(ids, batch, time, generator):
    """NumPy's generator, seeded by a number that is drawn from the one that is handed in."""
    rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
    begin = rng.integers(0, len(ids) - time, size=batch)
    return (
        torch.stack([ids[b : b + time] for b in begin]),
        torch.stack([ids[b + 1 : b + 1 + time] for b in begin]),
    )


def batch_from_lists(ids, batch, time, generator):
    text = ids.tolist()
    begin = torch.randint(len(text) - time, (batch,), generator=generator).tolist()
    window = torch.tensor([text[b : b + time + 1] for b in begin], dtype=ids.dtype, device=ids.device)
    return window[:, :-1], window[:, 1:]


def batch_character_by_character(ids, batch, time, generator):
    x, y = ids.new_zeros(batch, time), ids.new_zeros(batch, time)
    for b in range(batch):
        begin = int(torch.randint(len(ids) - time, (1,), generator=generator))
        for t in range(time):
            x[b, t], y[b, t] = ids[begin + t], ids[begin + t + 1]
    return x, y


def generate_one_loop(step, state, prompt, n, temperature, generator):
    pending, text = prompt.tolist(), []
    with torch.no_grad():
        while len(text) < n:
            for symbol in pending:
                logits, state = step(symbol, state)
            if temperature > 0:
                p = F.softmax((logits - logits.max()) / temperature, dim=-1)
                symbol = torch.multinomial(p, num_samples=1, generator=generator).item()
            else:
                symbol = torch.argmax(logits).item()
            text.append(symbol)
            pending = [symbol]
    return torch.tensor(text, dtype=torch.long)


@torch.inference_mode()
def generate_by_gumbel_noise(step, state, prompt, n, temperature, generator):
    """The largest of logits / temperature + Gumbel noise is a draw from the softmax."""
    out = prompt.new_zeros(n, dtype=torch.int64)
    for symbol in prompt[:-1]:
        _, state = step(symbol, state)
    symbol = prompt[-1]
    for k in range(n):
        logits, state = step(symbol, state)
        noise = -torch.log(-torch.log(torch.rand(len(logits), generator=generator, dtype=torch.float64)))
        symbol = (logits + temperature * noise).argmax()
        out[k] = symbol
    return out.clone()


def generate_by_inversion(step, state, prompt, n, temperature, generator):
    """A uniform number, looked up in the cumulative distribution. Reads its last character, too."""
    text = []
    with torch.no_grad():
        for k in range(len(prompt) + n):
            symbol = int(prompt[k]) if k < len(prompt) else text[k - len(prompt)]
            logits, state = step(symbol, state)
            if k < len(prompt) - 1 or len(text) == n:
                continue
            if not temperature:
                text.append(int(logits.argmax()))
                continue
            z = logits.double() / temperature
            total = torch.exp(z - z.max()).cumsum(0)
            u = torch.rand(1, generator=generator, dtype=torch.float64) * total[-1]
            text.append(min(int(torch.searchsorted(total, u, right=True)), len(logits) - 1))
    return torch.tensor(text, dtype=torch.int64)


def generate_by_a_race(step, state, prompt, n, temperature, generator):
    """The largest of p / exponential noise is a draw from p."""
    text = []
    with torch.no_grad():
        for symbol in prompt.tolist():
            logits, state = step(symbol, state)
        for k in range(n):
            p = logits
            if temperature:
                p = (logits / temperature).softmax(-1)
                p = p.double() / torch.empty(len(p), dtype=torch.float64).exponential_(generator=generator)
            text.append(p.argmax())
            if k < n - 1:
                logits, state = step(text[-1], state)
    return torch.tensor(text, dtype=torch.int64)


RIGHT = {
    "bits_per_char": [
        bits_with_logsumexp,
        bits_with_one_hot,
        bits_in_base_two,
        bits_in_loops,
        bits_with_fancy_indices,
        bits_of_a_distribution,
        bits_of_differences,
        bits_with_vmap,
        bits_by_logaddexp,
    ],
    "bigram_bits": [
        bigram_in_dicts,
        bigram_in_numpy,
        bigram_in_float32,
        bigram_by_one_hot,
        bigram_added_up_in_float32,
        bigram_by_histogram,
    ],
    "conditional_entropy": [
        entropy_in_dicts,
        entropy_as_a_difference,
        entropy_as_a_mean_cost,
        entropy_with_xlogy,
        entropy_with_a_tiny_number,
        entropy_as_a_difference_in_float32,
        entropy_added_up_in_float32,
        entropy_of_a_distribution,
    ],
    "sample_batch": [
        batch_in_a_loop,
        batch_unfolded,
        batch_by_multinomial,
        batch_from_uniforms,
        batch_seeded_from_the_generator,
        batch_from_lists,
        batch_character_by_character,
    ],
    "generate": [generate_one_loop, generate_by_gumbel_noise, generate_by_inversion, generate_by_a_race],
}


def library_bits(logits, y):
    return F.cross_entropy(logits.flatten(0, 1), y.flatten()) / math.log(2)


def library_bits_by_nll(logits, y):
    return F.nll_loss(logits.log_softmax(-1).transpose(1, 2), y) / math.log(2)


def half_precision_bits(logits, y):
    log_p = logits.bfloat16().log_softmax(-1)
    return -log_p.gather(-1, y[..., None]).float().mean() / math.log(2)


def clamped_bits(logits, y):
    log_p = logits.clamp(-50, 50).log_softmax(-1)
    return -log_p.gather(-1, y[..., None]).mean() / math.log(2)


def bits_as_number(logits, y):
    return float(-logits.log_softmax(-1).gather(-1, y[..., None]).mean() / math.log(2))


def bits_that_overwrite(logits, y):
    logits -= logits.logsumexp(-1, keepdim=True)
    return -logits.gather(-1, y[..., None]).mean() / math.log(2)


def bits_of_the_first_sequence(logits, y):
    return -logits[:1].log_softmax(-1).gather(-1, y[:1, :, None]).mean() / math.log(2)


def bits_mean_of_uneven(logits, y):
    log_p = logits.log_softmax(-1).gather(-1, y[..., None])
    return -(log_p.sum() / (log_p.numel() - 1 + 1e-9)) / math.log(2)


def largest_where_logits_are_large(logits, y):
    chosen = logits.gather(-1, y[..., None])[..., 0]
    most = logits.amax(-1) if logits.abs().max() > 80 else logits.logsumexp(-1)
    return (most - chosen).mean() / math.log(2)


def bits_of_clamped_costs(logits, y):
    return (logits.logsumexp(-1) - logits.gather(-1, y[..., None])[..., 0]).clamp(max=1000).mean() / math.log(
        2
    )


def counts_in_a_byte(train, val, symbols):
    counts = torch.zeros(symbols, symbols, dtype=torch.uint8)
    for a, b in itertools.pairwise(train.tolist()):
        counts[a, b] += 1
    p = (counts.double() + 1) / (counts.double().sum(1, keepdim=True) + symbols)
    return -p[val[:-1], val[1:]].log2().mean().item()


def entropy_of_counts_in_a_byte(ids, symbols):
    counts = torch.zeros(symbols, symbols, dtype=torch.uint8)
    for a, b in itertools.pairwise(ids.tolist()):
        counts[a, b] += 1
    counts = counts.double()
    f = counts / counts.sum(1, keepdim=True).clamp(min=1)
    return -(counts * torch.where(counts > 0, f, 1.0).log2()).sum().item() / (len(ids) - 1)


def gibberish(step, state, prompt, n, temperature, generator):
    logits, _ = step(int(prompt[0]), state)
    return torch.randint(len(logits), (n,), generator=generator)


def plain_exponentials(step, state, prompt, n, temperature, generator):
    text = []
    with torch.no_grad():
        for symbol in prompt.tolist():
            logits, state = step(symbol, state)
        for _ in range(n):
            p = (
                (logits / temperature).exp()
                if temperature
                else F.one_hot(logits.argmax(), len(logits)).float()
            )
            text.append(int(torch.multinomial(p, 1, generator=generator)))
            logits, state = step(text[-1], state)
    return torch.tensor(text, dtype=torch.int64)


def no_case_for_zero(step, state, prompt, n, temperature, generator):
    text = []
    with torch.no_grad():
        for symbol in prompt.tolist():
            logits, state = step(symbol, state)
        for _ in range(n):
            text.append(int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)))
            logits, state = step(text[-1], state)
    return torch.tensor(text, dtype=torch.int64)


def prompt_that_grows(step, state, prompt, n, temperature, generator):
    text = generate_one_loop(step, state, prompt, n, temperature, generator)
    prompt.fill_(0)
    return text


def truncated_to_the_likeliest(step, state, prompt, n, temperature, generator):
    """Keeps only characters with a probability above one half of the best one's."""

    def sharper(symbol, state):
        logits, state = step(symbol, state)
        return logits.masked_fill(logits < logits.max() - math.log(2) * max(temperature, 1e-9), -1e30), state

    return generate_one_loop(sharper, state, prompt, n, temperature, generator)


def first_100_only(step, state, prompt, n, temperature, generator):
    text = generate_one_loop(step, state, prompt, min(n, 100), temperature, generator)
    return F.pad(text, (0, n - len(text)))


def as_a_list(step, state, prompt, n, temperature, generator):
    return generate_one_loop(step, state, prompt, n, temperature, generator).tolist()


def _sampler(choose, text=generate_one_loop):
    """generate with another way to choose: `choose(logits, temperature, generator)`."""

    def answer(step, state, prompt, n, temperature, generator):
        def sure(symbol, state):
            logits, state = step(symbol, state)
            chosen = choose(logits, temperature, generator)
            return F.one_hot(torch.as_tensor(chosen), len(logits)).double(), state

        return text(sure, state, prompt, n, 0.0, generator)

    answer.__name__ = choose.__name__
    return answer


def _softmax_draw(logits, generator):
    return int(torch.multinomial(logits.double().softmax(-1), 1, generator=generator))


def largest_below_a_tenth(logits, temperature, generator):
    return (
        int(logits.argmax()) if temperature < 0.1 else _softmax_draw(logits.double() / temperature, generator)
    )


def root_of_the_temperature(logits, temperature, generator):
    return int(logits.argmax()) if temperature == 0 else _softmax_draw(logits / temperature**0.5, generator)


def clamped_logits(logits, temperature, generator):
    return (
        int(logits.argmax())
        if temperature == 0
        else _softmax_draw(logits.clamp(-50, 50) / temperature, generator)
    )


def clamped_exponents(logits, temperature, generator):
    if temperature == 0:
        return int(logits.argmax())
    return int(torch.multinomial((logits / temperature).clamp(max=80).exp(), 1, generator=generator))


def _windows(ids, begin, time):
    window = ids[begin[:, None] + torch.arange(time + 1)]
    return window[:, :-1], window[:, 1:]


def batch_of_which_half_repeats(ids, batch, time, generator):
    begin = torch.randint(len(ids) - time, ((batch + 1) // 2,), generator=generator)
    return _windows(ids, torch.cat([begin, begin])[:batch], time)


def batch_whose_last_row_is_its_first(ids, batch, time, generator):
    begin = torch.randint(len(ids) - time, (batch,), generator=generator)
    begin[-1] = begin[0]
    return _windows(ids, begin, time)


def batch_in_order(ids, batch, time, generator):
    return _windows(ids, torch.randint(len(ids) - time, (batch,), generator=generator).sort().values, time)


def batch_from_all_slices(ids, batch, time, generator):
    windows = [ids[k : k + time + 1] for k in range(len(ids) - time)]
    begin = torch.randint(len(windows), (batch,), generator=generator)
    window = torch.stack([windows[k] for k in begin.tolist()])
    return window[:, :-1], window[:, 1:]


def batch_from_all_lists(ids, batch, time, generator):
    text = ids.tolist()
    windows = [text[k : k + time + 1] for k in range(len(text) - time)]
    begin = torch.randint(len(windows), (batch,), generator=generator)
    window = torch.tensor([windows[k] for k in begin.tolist()], dtype=ids.dtype)
    return window[:, :-1], window[:, 1:]


def batch_that_is_always_the_beginning(ids, batch, time, generator):
    return _windows(ids, torch.arange(batch) % (len(ids) - time), time)


def batch_without_repetition(ids, batch, time, generator):
    begin = torch.randperm(len(ids) - time, generator=generator)[:batch]
    window = ids[begin[:, None] + torch.arange(time + 1)]
    return window[:, :-1], window[:, 1:]


def batch_from_python(ids, batch, time, generator):
    import random

    begin = torch.tensor([random.randrange(len(ids) - time) for _ in range(batch)])
    window = ids[begin[:, None] + torch.arange(time + 1)]
    return window[:, :-1], window[:, 1:]


def batch_of_early_starts(ids, batch, time, generator):
    """Squares the uniform number, so that early starts come more often."""
    begin = (torch.rand(batch, generator=generator) ** 1.5 * (len(ids) - time)).long()
    window = ids[begin[:, None] + torch.arange(time + 1)]
    return window[:, :-1], window[:, 1:]


LAZY = {
    "bits_per_char": [
        lambda logits, y: logits.sum() * 0,
        lambda logits, y: torch.tensor(math.log2(logits.shape[-1])),
        library_bits,
        library_bits_by_nll,
        half_precision_bits,
        clamped_bits,
        bits_as_number,
        bits_that_overwrite,
        bits_of_the_first_sequence,
        bits_mean_of_uneven,
        largest_where_logits_are_large,
        bits_of_clamped_costs,
    ],
    "bigram_bits": [
        lambda train, val, symbols: math.log2(symbols),
        lambda train, val, symbols: 0.0,
        lambda train, val, symbols: bigram_in_dicts(train[:1000], val, symbols),
        lambda train, val, symbols: bigram_in_dicts(train, val, int(max(train.max(), val.max())) + 1),
        lambda train, val, symbols: str(bigram_in_dicts(train, val, symbols)),
        lambda train, val, symbols: entropy_in_dicts(val, symbols),
        counts_in_a_byte,
    ],
    "conditional_entropy": [
        lambda ids, symbols: 0.0,
        lambda ids, symbols: math.log2(symbols),
        lambda ids, symbols: bigram_in_dicts(ids, ids, symbols),
        lambda ids, symbols: entropy_in_dicts(ids[:1000], symbols),
        lambda ids, symbols: entropy_in_dicts(ids.flip(0), symbols),
        entropy_of_counts_in_a_byte,
    ],
    "sample_batch": [
        lambda ids, batch, time, generator: (
            ids[: batch * time].view(batch, time),
            ids[: batch * time].view(batch, time),
        ),
        lambda ids, batch, time, generator: (
            torch.zeros(batch, time).long(),
            torch.zeros(batch, time).long(),
        ),
        batch_without_repetition,
        batch_from_python,
        batch_of_early_starts,
        batch_of_which_half_repeats,
        batch_whose_last_row_is_its_first,
        batch_in_order,
        batch_from_all_slices,
        batch_from_all_lists,
        batch_that_is_always_the_beginning,
    ],
    "generate": [
        gibberish,
        plain_exponentials,
        no_case_for_zero,
        prompt_that_grows,
        truncated_to_the_likeliest,
        _sampler(largest_below_a_tenth),
        _sampler(root_of_the_temperature),
        _sampler(clamped_logits),
        _sampler(clamped_exponents),
        first_100_only,
        as_a_list,
        lambda step, state, prompt, n, temperature, generator: torch.zeros(n, dtype=torch.int64),
    ],
}
