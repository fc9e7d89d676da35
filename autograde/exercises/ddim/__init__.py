"""The exercises of the series ``ddim``, in the order of its lessons."""

from autograde.exercises.ddim.alpha_bar import alpha_bar
from autograde.exercises.ddim.ddim_invert import ddim_invert
from autograde.exercises.ddim.ddim_sample import ddim_sample
from autograde.exercises.ddim.ddim_step import ddim_step
from autograde.exercises.ddim.energy_distance import energy_distance
from autograde.exercises.ddim.eps_loss import eps_loss
from autograde.exercises.ddim.gmm_eps import gmm_eps
from autograde.exercises.ddim.marginal_moments import marginal_moments
from autograde.exercises.ddim.ode_step import ode_step
from autograde.exercises.ddim.posterior import posterior
from autograde.exercises.ddim.predict_x0 import predict_x0
from autograde.exercises.ddim.q_sample import q_sample
from autograde.exercises.ddim.sigma import sigma
from autograde.exercises.ddim.slerp import slerp
from autograde.exercises.ddim.sub_schedule import sub_schedule

EXERCISES = (
    # 01_ddpm_posterior
    alpha_bar,
    q_sample,
    posterior,
    eps_loss,
    # 02_ddim_derivation
    predict_x0,
    sigma,
    ddim_step,
    marginal_moments,
    ode_step,
    # 03_sampler
    sub_schedule,
    ddim_sample,
    gmm_eps,
    # 04_quality_inversion
    energy_distance,
    ddim_invert,
    slerp,
)
