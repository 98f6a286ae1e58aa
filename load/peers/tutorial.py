"""FastAPI as most tutorials write it: a pandas row, the scikit-learn wrapper, a plain function.

`BUNDLE=bundles/penguins/<digest> uvicorn load.peers.tutorial:app`
"""

import os

import pandas as pd
import xgboost as xgb
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()

CLASSES = ["Adelie", "Chinstrap", "Gentoo"]

model = xgb.XGBClassifier()
model.load_model(os.path.join(os.environ["BUNDLE"], "model.json"))  # noqa: PTH118 - as tutorials write it


class Penguin(BaseModel):
    """One instance."""

    bill_length_mm: float
    bill_depth_mm: float
    flipper_length_mm: float
    body_mass_g: float


@app.post("/predict")
def predict(penguin: Penguin) -> dict[str, object]:
    """Answer one instance."""
    row = pd.DataFrame([penguin.model_dump()])
    probabilities = model.predict_proba(row)[0]
    index = int(probabilities.argmax())
    return {
        "prediction": index,
        "label": CLASSES[index],
        "probabilities": {name: float(value) for name, value in zip(CLASSES, probabilities, strict=True)},
    }
