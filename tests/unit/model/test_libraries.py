"""The versions that a bundle and a service name."""

from __future__ import annotations

import platform

import numpy as np

from model.libraries import versions


def test_libraries_that_are_not_installed_are_left_out():
    found = versions(("numpy", "xgboost", "xgboost-cpu", "no-such-library"))

    assert (found["python"], found["numpy"]) == (platform.python_version(), np.__version__)
    # one of the two distributions of XGBoost is installed, never both
    assert len({"xgboost", "xgboost-cpu"} & set(found)) == 1
    assert len(found) == 3
