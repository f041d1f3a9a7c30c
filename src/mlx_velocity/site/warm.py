"""Imported by the process that others are forked from: what they need is loaded once, compiled loops included."""

from __future__ import annotations

import numpy as np

from mlx_velocity import windows
from mlx_velocity.site import asv_graphs, steps, writer

USED = (asv_graphs, windows, writer)
"""Whose functions are called there."""

# A step, and weights that differ: every loop is called once.
_VALUES = np.repeat([1.0, 2.0], 40) + np.linspace(0, 0.01, 80)
steps.compiled(_VALUES, np.linspace(1, 2, 80))
