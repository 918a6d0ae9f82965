"""Every flag of the four scripts with its default, as their README and the scripts have them, and one of ours."""

from kinsight.compat.flags import Flag

_GPU = Flag("use_gpu", bool, True, "use the GPU; without one, a warning and the CPU")
_MODEL = Flag("model", str, "ResNet50", "network: ResNet50, ResNet101, ResNet152, or any backbone of kinsight train")
_EMBEDDING = Flag("embedding_size", int, 0, "length of the embedding; 0: the pooled features as they are")
_SHAPE = Flag("image_shape", str, "3,224,224", "what the network sees: 3,S,S")
_DATA = Flag("data_dir", str, "data/Stanford_Online_Products", "folder of the data set (a flag of Kinsight)")
_PRETRAINED = "model: a saved iteration, a bundle, a weights file, or `default` (published weights)"


def _training(*, batch: int, lr: float, lr_steps: str, total: int, rhythm: int, loss: str, losses: str) -> list[Flag]:
    return [
        _MODEL,
        _EMBEDDING,
        Flag("train_batch_size", int, batch, "images of a training step, over all GPUs"),
        Flag("test_batch_size", int, 50, "images of a pass while testing"),
        _SHAPE,
        Flag("class_dim", int, 11318, "classes; when not given, those of the training list are counted"),
        Flag("lr", float, lr, "first learning rate"),
        Flag("lr_strategy", str, "piecewise_decay", "piecewise_decay is all there is"),
        Flag("lr_steps", str, lr_steps, "iterations at which the learning rate is divided by 10"),
        Flag("total_iter_num", int, total, "training iterations"),
        Flag("display_iter_step", int, 10, "iterations between lines; 0: none"),
        Flag("test_iter_step", int, rhythm, "iterations between tests; 0: none"),
        Flag("save_iter_step", int, rhythm, "iterations between saved models; 0: only the last"),
        _GPU,
        Flag("with_mem_opt", bool, True, "no effect here"),
        Flag("pretrained_model", str, None, f"{_PRETRAINED} to start from; default: random"),
        Flag("checkpoint", str, None, "saved iteration to go on from"),
        Flag("model_save_dir", str, "output", "models are saved in MODEL_SAVE_DIR/MODEL/ITERATION"),
        Flag("loss_name", str, loss, losses),
    ]


TRAIN_ELEM = [
    *_training(
        batch=256, lr=0.01, lr_steps="15000,25000", total=30000, rhythm=1000, loss="softmax",
        losses="softmax or arcmargin",
    ),
    Flag("arc_scale", float, 80.0, "arcmargin: factor of the cosines"),
    Flag("arc_margin", float, 0.15, "arcmargin: added to the own class's angle, in radians"),
    Flag("arc_easy_margin", bool, False, "arcmargin: margin only within 90 degrees"),
    Flag("enable_ce", bool, False, "no effect here"),
    _DATA,
]  # fmt: skip

TRAIN_PAIR = [
    *_training(
        batch=120, lr=0.0001, lr_steps="100000", total=100000, rhythm=5000, loss="triplet",
        losses="triplet, quadruplet, eml or npairs",
    ),
    Flag("samples_each_class", int, 2, "quadruplet, eml, npairs: images of each class in a batch; npairs takes 2"),
    Flag("margin", float, 0.1, "triplet, quadruplet: in squared distances of unit embeddings"),
    Flag("npairs_reg_lambda", float, 0.01, "npairs: weight of half the mean squared length"),
    _DATA,
]  # fmt: skip


def _using(batch: int) -> list[Flag]:
    return [
        _MODEL,
        _EMBEDDING,
        Flag("batch_size", int, batch, "images of a pass"),
        _SHAPE,
        _GPU,
        Flag("with_mem_opt", bool, False, "no effect here"),
        Flag("pretrained_model", str, None, f"{_PRETRAINED}; default: random weights"),
        _DATA,
    ]


EVAL = _using(10)
INFER = _using(1)
