"""Exercises of the series ``rnn``: one module for each, and their list in the order of the lessons."""

from autograde.exercises.rnn.adder_weights import adder_weights
from autograde.exercises.rnn.bigram_bits import bigram_bits
from autograde.exercises.rnn.bits_per_char import bits_per_char
from autograde.exercises.rnn.bptt import bptt
from autograde.exercises.rnn.cell_gradient import cell_gradient
from autograde.exercises.rnn.clip_by_global_norm import clip_by_global_norm
from autograde.exercises.rnn.conditional_entropy import conditional_entropy
from autograde.exercises.rnn.forget_bias import forget_bias
from autograde.exercises.rnn.gate_biases import gate_biases
from autograde.exercises.rnn.generate import generate
from autograde.exercises.rnn.gradient_shares import gradient_shares
from autograde.exercises.rnn.gru_step import gru_step
from autograde.exercises.rnn.jacobian_norms import jacobian_norms
from autograde.exercises.rnn.last_valid import last_valid
from autograde.exercises.rnn.lstm_step import lstm_step
from autograde.exercises.rnn.n_params import n_params
from autograde.exercises.rnn.rnn_forward import rnn_forward
from autograde.exercises.rnn.rnn_step import rnn_step
from autograde.exercises.rnn.sample_batch import sample_batch
from autograde.exercises.rnn.truncated_bptt import truncated_bptt
from autograde.exercises.rnn.window_error import window_error

EXERCISES = (
    # 01_vanilla_rnn
    window_error,
    rnn_step,
    adder_weights,
    rnn_forward,
    last_valid,
    n_params,
    # 02_bptt
    gradient_shares,
    bptt,
    jacobian_norms,
    clip_by_global_norm,
    truncated_bptt,
    # 03_gates
    cell_gradient,
    forget_bias,
    lstm_step,
    gate_biases,
    gru_step,
    # 04_char_lm
    bits_per_char,
    bigram_bits,
    conditional_entropy,
    sample_batch,
    generate,
)
