"""Receptive fields: the references of the series ``receptive_field``, one module for each notebook."""

from utils.reference.receptive_field.effective import erf_map, erf_size, erf_std, path_counts, predicted_std
from utils.reference.receptive_field.formulas import (
    Graph,
    Layer,
    Reads,
    effective_kernel,
    rf_bottom_up,
    rf_dag,
    rf_equal_layers,
    rf_top_down,
    upsampling_reads,
)
from utils.reference.receptive_field.modules import layer_reads, module_reads
from utils.reference.receptive_field.probe import (
    Row,
    min_depth_for,
    open_paths,
    rf_by_gradient,
    rf_of_module,
    unit_center,
)

__all__ = [
    "Graph",
    "Layer",
    "Reads",
    "Row",
    "effective_kernel",
    "erf_map",
    "erf_size",
    "erf_std",
    "layer_reads",
    "min_depth_for",
    "module_reads",
    "open_paths",
    "path_counts",
    "predicted_std",
    "rf_bottom_up",
    "rf_by_gradient",
    "rf_dag",
    "rf_equal_layers",
    "rf_of_module",
    "rf_top_down",
    "unit_center",
    "upsampling_reads",
]
