"""Exercises of the series ``rnn``: one module for each, and their list in the order of the lessons."""

from autograde.exercises.rnn.adder_weights import adder_weights
from autograde.exercises.rnn.bigram_bits import bigram_bits
from autograde.exercises.rnn.bits_per_char import bits_per_char
from autograde.exercises.rnn.conditional_entropy import conditional_entropy
from autograde.exercises.rnn.generate import generate
from autograde.exercises.rnn.last_valid import last_valid
from autograde.exercises.rnn.n_params import n_params
from autograde.exercises.rnn.rnn_forward import rnn_forward
from autograde.exercises.rnn.rnn_step import rnn_step
from autograde.exercises.rnn.sample_batch import sample_batch
from autograde.exercises.rnn.window_error import window_error

EXERCISES = (
    # 01_vanilla_rnn
    window_error,
    rnn_step,
    adder_weights,
    rnn_forward,
    last_valid,
    n_params,
    # 04_char_lm
    bits_per_char,
    bigram_bits,
    conditional_entropy,
    sample_batch,
    generate,
)
