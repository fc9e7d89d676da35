"""Exercises of the series ``receptive_field``: one module for each, and their list in the order of the lessons."""

from autograde.exercises.receptive_field.effective_kernel import effective_kernel
from autograde.exercises.receptive_field.erf_map import erf_map
from autograde.exercises.receptive_field.erf_size import erf_size
from autograde.exercises.receptive_field.erf_std import erf_std
from autograde.exercises.receptive_field.min_depth_for import min_depth_for
from autograde.exercises.receptive_field.open_paths import open_paths
from autograde.exercises.receptive_field.path_counts import path_counts
from autograde.exercises.receptive_field.predicted_std import predicted_std
from autograde.exercises.receptive_field.rf_bottom_up import rf_bottom_up
from autograde.exercises.receptive_field.rf_by_gradient import rf_by_gradient
from autograde.exercises.receptive_field.rf_dag import rf_dag
from autograde.exercises.receptive_field.rf_equal_layers import rf_equal_layers
from autograde.exercises.receptive_field.rf_of_module import rf_of_module
from autograde.exercises.receptive_field.rf_top_down import rf_top_down
from autograde.exercises.receptive_field.unit_center import unit_center
from autograde.exercises.receptive_field.upsampling_reads import upsampling_reads

EXERCISES = (
    # 01_formulas
    effective_kernel,
    rf_top_down,
    rf_bottom_up,
    rf_equal_layers,
    upsampling_reads,
    rf_dag,
    # 02_probe
    rf_by_gradient,
    open_paths,
    unit_center,
    min_depth_for,
    rf_of_module,
    # 03_effective
    path_counts,
    predicted_std,
    erf_map,
    erf_std,
    erf_size,
)
