"""Who is alike: what losses, miners and metrics ask of labels, whatever these look like.

    from kinsight.relations import Hierarchy, SameLabel
    from kinsight.losses import Triplet
    loss = Triplet(margin=0.2)(embeddings, labels)                               # labels (B,)
    loss = Triplet(margin=0.2)(embeddings, fine_coarse, relation=Hierarchy())    # (B, 2): class, super-class

A target is a tensor with one row per image. A relation is stateless and reads two of them, so that targets can be
gathered from other processes, cut into blocks and kept in a memory like any tensor.
"""

from kinsight.relations.graded import Hierarchy, SharedLabels, SoftLabels
from kinsight.relations.relation import Level, Masks, Relation, SameLabel

__all__ = ["Hierarchy", "Level", "Masks", "Relation", "SameLabel", "SharedLabels", "SoftLabels"]
