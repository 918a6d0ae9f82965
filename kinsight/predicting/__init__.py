"""What images show, for as many as there are: the `predict` job."""

from kinsight.predicting.job import predict as predict
