"""Recurrent networks: the references of the series ``rnn``, one module for each notebook."""

from utils.reference.rnn.characters import (
    bigram_bits,
    bits_per_char,
    conditional_entropy,
    generate,
    sample_batch,
)
from utils.reference.rnn.elman import adder_weights, last_valid, n_params, rnn_forward, rnn_step, window_error
from utils.reference.rnn.gates import gru_step, lstm_step

__all__ = [
    "adder_weights",
    "bigram_bits",
    "bits_per_char",
    "conditional_entropy",
    "generate",
    "gru_step",
    "last_valid",
    "lstm_step",
    "n_params",
    "rnn_forward",
    "rnn_step",
    "sample_batch",
    "window_error",
]
