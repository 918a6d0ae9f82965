"""Accuracy on Omniglot's official 20-way one-shot task: python examples/omniglot_one_shot.py BUNDLE ONE_SHOT_FOLDER.

In each of 20 runs, 20 drawings are to be given to one of 20 characters of which one drawing each is known. Nothing is
trained here: every drawing goes to the character whose vector is most similar.
"""

import sys
from pathlib import Path

import numpy as np

import kinsight


def main(bundle: str, folder: str) -> float:
    """Print and return the share of right answers over all runs."""
    model = kinsight.load(bundle)
    right = []
    for labels in sorted(Path(folder).glob("run*/class_labels.txt")):
        pairs = [line.split() for line in labels.read_text().splitlines() if line.strip()]
        tests = model.embed([labels.parent.parent / test for test, _ in pairs])
        known = model.embed([labels.parent.parent / character for _, character in pairs])
        right += list((tests @ known.T).argmax(axis=1) == np.arange(len(pairs)))
    if not right:
        raise SystemExit(f"{folder}: no run*/class_labels.txt there")
    accuracy = float(np.mean(right))
    print(f"one-shot accuracy {accuracy:.4f} over {len(right)} drawings (error {100 * (1 - accuracy):.1f} %)")
    return accuracy


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
