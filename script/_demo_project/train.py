"""The mean image of each digit, drawn towards the mean of all by the param `shrink`."""

import os

import numpy as np

shrink = float(os.environ["FSD_PARAM_shrink"])  # noqa: SIM112 - the param is called so
images, labels = np.load("prepared/train-images.npy"), np.load("prepared/train-labels.npy")
means = np.stack([images[labels == digit].mean(axis=0) for digit in range(10)])
np.save("model.npy", (1 - shrink) * means + shrink * images.mean(axis=0))
