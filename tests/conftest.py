"""Tests use no network and no display, and try the same examples on every machine, however busy it is."""

import os

from hypothesis import HealthCheck, settings

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", MPLBACKEND="Agg")

settings.register_profile(
    "seechat", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("seechat")
