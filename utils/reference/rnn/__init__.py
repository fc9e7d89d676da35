"""Recurrent networks: the references of the series ``rnn``, one module for each notebook."""

from utils.reference.rnn.bptt import (
    bptt,
    clip_by_global_norm,
    gradient_shares,
    jacobian_norms,
    truncated_bptt,
)
from utils.reference.rnn.characters import (
    bigram_bits,
    bits_per_char,
    conditional_entropy,
    generate,
    sample_batch,
)
from utils.reference.rnn.elman import adder_weights, last_valid, n_params, rnn_forward, rnn_step, window_error
from utils.reference.rnn.gates import cell_gradient, forget_bias, gate_biases, gru_step, lstm_step

__all__ = [
    "adder_weights",
    "bigram_bits",
    "bits_per_char",
    "bptt",
    "cell_gradient",
    "clip_by_global_norm",
    "conditional_entropy",
    "forget_bias",
    "gate_biases",
    "generate",
    "gradient_shares",
    "gru_step",
    "jacobian_norms",
    "last_valid",
    "lstm_step",
    "n_params",
    "rnn_forward",
    "rnn_step",
    "sample_batch",
    "truncated_bptt",
    "window_error",
]
