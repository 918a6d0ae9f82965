"""Small TFRecord files for tests."""

import io

import numpy as np
from PIL import Image

from kinsight.data.tfrecord import encode_example, frame


def picture(seed, side=24, kind="JPEG"):
    """An encoded image of one colour with a little noise: seeds can be told apart by their mean."""
    rng = np.random.default_rng(seed)
    pixels = (np.full((side, side, 3), 20 * (seed % 10) + 10) + rng.integers(0, 10, (side, side, 3))).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def example(seed, labels, texts=None, **more):
    """A message with TF-slim's keys."""
    features = {"image/encoded": picture(seed), "image/format": "jpeg", "image/class/label": labels, **more}
    return encode_example(features | ({"image/class/text": texts} if texts is not None else {}))


def write_shard(path, messages):
    """A file of these messages; returns its path."""
    path.write_bytes(b"".join(map(frame, messages)))
    return path
