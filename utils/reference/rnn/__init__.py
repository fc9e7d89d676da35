"""Recurrent networks: the references of the series ``rnn``, one module for each notebook."""

from utils.reference.rnn.elman import adder_weights, last_valid, n_params, rnn_forward, rnn_step, window_error
from utils.reference.rnn.gates import cell_gradient, forget_bias, gate_biases, gru_step, lstm_step

__all__ = [
    "adder_weights",
    "cell_gradient",
    "forget_bias",
    "gate_biases",
    "gru_step",
    "last_valid",
    "lstm_step",
    "n_params",
    "rnn_forward",
    "rnn_step",
    "window_error",
]
