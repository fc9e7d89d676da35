"""Sampling in few steps: the references of the series ``ddim``, one module for each notebook, and a fused kernel."""

from utils.reference.ddim.derivation import ddim_step, marginal_moments, ode_step, predict_x0, sigma
from utils.reference.ddim.fused import fused_ddim_step
from utils.reference.ddim.posterior import alpha_bar, eps_loss, posterior, q_sample
from utils.reference.ddim.quality import ddim_invert, energy_distance, slerp
from utils.reference.ddim.sampler import ddim_sample, gmm_eps, sub_schedule

__all__ = [
    "alpha_bar",
    "ddim_invert",
    "ddim_sample",
    "ddim_step",
    "energy_distance",
    "eps_loss",
    "fused_ddim_step",
    "gmm_eps",
    "marginal_moments",
    "ode_step",
    "posterior",
    "predict_x0",
    "q_sample",
    "sigma",
    "slerp",
    "sub_schedule",
]
