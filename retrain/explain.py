"""Where on a picture a model sees a class: the class activation map, laid over the picture or cut out of it."""

import numpy as np
from PIL import Image

from retrain.backbones import find_spec
from retrain.errors import RetrainError

HEAT_OPACITY = 0.75  # of the hottest place
LEVELS = 256  # of heat, as Otsu's histogram counts them
BLANK = 0.9  # share of white laid over what is not segmented

# Colours of rising lightness, told apart by the colour-blind and in grey alike: "inferno" of matplotlib, thinned out.
INFERNO = [
    (0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85), (227, 89, 51), (249, 140, 10),
    (249, 201, 50), (252, 255, 164),
]  # fmt: skip


def needs_tensorflow(model):
    """Whether its maps are of the gradient, which TensorFlow computes: a network gives no feature map."""
    return not all(backbone.has_feature_map for backbone in model.backbones)


def require_maps(model):
    """Raise RetrainError where a model can have no maps, or they need TensorFlow, which is not installed."""
    if needs_tensorflow(model):
        from retrain.tf import require

        for backbone in model.backbones:
            if not backbone.has_feature_map and not backbone.spec.weights_package:
                raise RetrainError(
                    f"{backbone.spec.name} gives no feature map, and its gradient needs the network it was made from.",
                    "Heat maps need a network that ends in the mean of a feature map, or a registered one.",
                )
        require()


def class_map(model, image, label):
    """Class activation map of a decoded picture: what each place of it adds to the logit of a class.

    label: index of the class.  Returns float32 (h, w) over the crop that the networks see.  Its mean plus the head's
    intercept is the logit, but for the rounding of int8: the head is linear in the mean of the feature map.  The
    weights of all classes sum to zero, so that it tells this class from the mean of the others.  Zhou et al. 2016,
    arXiv:1512.04150.
    """
    parts = _parts(model, image, label)
    height, width = max(part.shape for part in parts)
    return np.sum([_spread(height, part.shape[0]) @ part @ _spread(width, part.shape[1]).T for part in parts], axis=0)


def heat(model, image, label):
    """The positive part of the class map in the place where the picture shows it, scaled to 0-1.

    Returns float32 (height, width) of the picture; 0 outside the crop that the networks see, and everywhere where
    nothing speaks for the class.
    """
    parts = zip(_parts(model, image, label), model.backbones, strict=True)
    total = np.sum([_place(part, image.size, backbone.spec.crop) for part, backbone in parts], axis=0)
    return np.maximum(total, 0) / max(float(total.max()), 1e-12)


def overlay(image, heat):
    """The picture in grey, the heat in colour over it.  heat: of that picture, as `heat` returns it, of any size."""
    heat = _fitted(heat, image)
    places = np.linspace(0, len(INFERNO) - 1, LEVELS)
    table = np.stack([np.interp(places, range(len(INFERNO)), channel) for channel in np.transpose(INFERNO)], axis=1)
    colors = table.astype(np.float32)[_levels(heat)]
    gray = np.asarray(image.convert("L"), np.float32)[..., None]
    return Image.fromarray((gray + HEAT_OPACITY * heat[..., None] * (colors - gray)).astype(np.uint8))


def segment(image, heat):
    """The part of the picture that is hot, the rest nearly white.  heat: as `overlay` takes it."""
    heat = _fitted(heat, image)
    kept = Image.fromarray(heat > otsu(heat))
    return Image.composite(image, Image.blend(image, Image.new("RGB", image.size, "white"), BLANK), kept)


def otsu(values):
    """Threshold that best tells two groups of values from 0 to 1 apart.  Otsu 1979, doi:10.1109/TSMC.1979.4310076."""
    counts = np.bincount(_levels(values).ravel(), minlength=LEVELS)
    below, sums = np.cumsum(counts)[:-1], np.cumsum(counts * np.arange(LEVELS))
    above = counts.sum() - below
    means_apart = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return (int(np.argmax(below * above * means_apart**2)) + 1) / (LEVELS - 1)


def _levels(values):
    return (values * (LEVELS - 1)).astype(np.uint8)


def _parts(model, image, label):
    """The map of each backbone, float32 (h, w); their means add up to the logit without the intercept."""
    weights, parts = model.head.weights[label] / np.float32(len(model.backbones) ** 0.5), []
    for backbone in model.backbones:
        own, weights = np.split(weights, [backbone.spec.embedding_size])
        parts.append(_part(backbone, backbone.to_input(image), own))
    return parts


def _part(backbone, pixels, weights):
    embedding, feature_map = backbone.look(pixels)
    if feature_map is None:
        from retrain.tf import gradient_map

        # Of the registered spec: the model's own may be a stranger's, and names files to read.
        return gradient_map(find_spec(backbone.spec.name), pixels, weights)
    # The head sees embeddings of length 1.
    return feature_map @ (weights / max(float(np.linalg.norm(embedding)), 1e-12))


def _spread(size, cells):
    """Matrix float32 (size, cells) that brings a row of cells to another size and keeps its mean."""
    edges, own = np.arange(size + 1) / size, np.arange(cells + 1) / cells
    shared = np.minimum(edges[1:, None], own[1:]) - np.maximum(edges[:-1, None], own[:-1])
    return np.maximum(shared * size, 0).astype(np.float32)


def _place(part, size, crop):
    """A map of the centre crop as one of the picture: float32 (height, width), 0 outside the crop."""
    side = round(min(size) * crop)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    placed = np.zeros(size[::-1], np.float32)
    placed[top : top + side, left : left + side] = _resized(part, (side, side))
    return placed


def _fitted(heat, image):
    return np.clip(_resized(heat, image.size), 0, 1)


def _resized(values, size):
    """values float32 (h, w) as (height, width) of size (width, height), smoothly."""
    if values.shape == size[::-1]:
        return values
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC))
