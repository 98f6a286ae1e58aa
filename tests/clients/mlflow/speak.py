"""Speaks MLflow's scoring protocol with its own client: python speak.py PENGUINS_ADDRESS PLOTS_ADDRESS."""

import sys

import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

ROW = {"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750}
PLOT = {"depth_m": 3.25, "count": 7, "ph": float("nan"), "soil": "clay"}

penguins, plots = (ScoringServerClient(*address.split(":")) for address in sys.argv[1:3])
penguins.ping()
assert "commit" in penguins.get_version()


def probabilities(client, frame):
    answer = client.invoke(frame)
    assert len(answer.get_predictions()) == len(frame)
    return answer["predictions"][0]["probabilities"]


frame = pd.DataFrame([ROW, ROW], index=["a", "b"])
expected = probabilities(penguins, frame)
assert max(expected, key=expected.get) == "Adelie"
assert probabilities(penguins, frame[list(reversed(ROW))]) == expected
assert probabilities(penguins, frame.assign(island="Dream")) == expected
assert probabilities(penguins, frame.to_numpy()) == expected

with_nan = probabilities(plots, pd.DataFrame([PLOT]))
assert abs(sum(with_nan.values()) - 1) < 1e-6
for client, bad, word in (
    (penguins, frame.assign(bill_depth_mm=float("nan")), "null"),
    (penguins, frame.drop(columns="bill_depth_mm"), "missing"),
    (penguins, frame.assign(flipper_length_mm=7.13), "unit"),
    (plots, pd.DataFrame([{**PLOT, "depth_m": float("nan")}]), "null"),
):
    try:
        client.invoke(bad)
    except Exception as error:
        assert "error code 400" in str(error) and f" {word}: " in str(error), error
    else:
        raise AssertionError("not refused")
print("mlflow-skinny: 5 answers, permuted, with an extra column and with NaN; 4 refusals")
