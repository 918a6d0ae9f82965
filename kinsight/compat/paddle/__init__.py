"""PaddlePaddle's metric learning scripts (PaddleCV/metric_learning of PaddlePaddle/models, release 1.8 and before)."""
