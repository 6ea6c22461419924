"""Settings of the whole folder: one thread a test process, and the same hypothesis examples every time."""

from __future__ import annotations

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("nas", deadline=None, derandomize=True, database=None)
settings.load_profile("nas")
