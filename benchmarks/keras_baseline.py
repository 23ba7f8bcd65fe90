"""Transfer learning as one writes it with Keras and scikit-learn: keras_baseline.py DATA BACKBONE.keras OUT.keras

The head is searched over our grid, in our number of folds, on rows scaled as ours, at our tolerance.
"""

import json
import os
import sys
import time
from pathlib import Path

clock = {"start": float(os.environ["STARTED"])}

import keras  # noqa: E402 - the clock includes it
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402
from sklearn.linear_model import LogisticRegressionCV  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402

C_GRID = [3.0, 30.0, 300.0]
SIZE = (224, 224)

data, backbone_file, out = sys.argv[1:]
clock["start-up, imports"] = time.time()

dataset = keras.utils.image_dataset_from_directory(
    data, image_size=SIZE, shuffle=False, crop_to_aspect_ratio=True, verbose=False
)
labels = np.array([dataset.class_names.index(Path(path).parent.name) for path in dataset.file_paths])
clock["find"] = time.time()

backbone = keras.models.load_model(backbone_file)
images = keras.Input((*SIZE, 3))
pooled = keras.Model(backbone.input, backbone.get_layer("embeddings").output)
embed = keras.Model(images, layers.UnitNormalization()(pooled(layers.Rescaling(1 / 128, -127 / 128)(images))))
clock["load backbone"] = time.time()

embeddings = embed.predict(dataset, verbose=0)
clock["embed"] = time.time()

learned, tested = train_test_split(np.arange(len(labels)), test_size=0.1, stratify=labels, random_state=0)
mean = embeddings[learned].mean(axis=0)
scale = np.sqrt(((embeddings[learned] - mean) ** 2).sum(axis=1).mean())
head = LogisticRegressionCV(
    Cs=C_GRID,
    cv=5,
    scoring="neg_log_loss",
    class_weight="balanced",
    max_iter=1000,
    tol=1e-4,
    use_legacy_attributes=False,
)
head.fit((embeddings[learned] - mean) / scale, labels[learned])
accuracy = float(np.mean(head.predict((embeddings[tested] - mean) / scale) == labels[tested]))
clock["search C, fit"] = time.time()

weights = head.coef_ if len(head.classes_) > 2 else np.concatenate([-head.coef_, head.coef_]) / 2
bias = head.intercept_ if len(head.classes_) > 2 else np.concatenate([-head.intercept_, head.intercept_]) / 2
dense = layers.Dense(len(dataset.class_names), activation="softmax")
model = keras.Model(images, dense(embed.output))
dense.set_weights([weights.T / scale, bias - weights @ mean / scale])
model.save(out)
clock["save"] = time.time()

times = list(clock.values())
stages = {name: round(end - start, 3) for name, start, end in zip(list(clock)[1:], times, times[1:], strict=False)}
print(json.dumps({"accuracy": accuracy, "images": len(labels), "stages": stages}))
