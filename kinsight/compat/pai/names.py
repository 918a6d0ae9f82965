"""Parameters of the console's component "Image metric learning training (raw)" as its page prints them."""

from dataclasses import dataclass
from typing import Any

SCRIPT = "pai-metric-learning"
DATA_PARALLEL, MODEL_PARALLEL = "Data-parallel metric learning", "Model-parallel metric learning"
STANDALONE, DISTRIBUTED = "Standalone DLC", "Distributed DLC"


@dataclass(frozen=True)
class Field:
    """One parameter. name: as the page prints it. default: None where it has none. needed: whether it must be there."""

    name: str
    default: Any = None
    needed: bool = False


MODEL_TYPE = Field("Metric learning model type", DATA_PARALLEL)
OUTPUT = Field("OSS directory for training output", needed=True)
TRAIN_PORT, TEST_PORT = Field("Training annotation file"), Field("Evaluation annotation file")
TRAIN, TEST = Field("Training annotation file path"), Field("Validation annotation file path")
CLASSES = Field("File of class name list")
FORMAT = Field("Data source format", "ClsSourceImageList")
PRETRAINED = Field("OSS path of the pre-trained model")
BACKBONE = Field("Metric learning backbone", "resnet50")
SIZE = Field("Image resize size", 224)
BACKBONE_DIM = Field("Backbone output feature dimension", 2048)
EMBEDDING = Field("Feature output dimension", 1536)
NUM_CLASSES = Field("Number of training classes", needed=True)
LOSS = Field("Loss function", "AMSoftmax")
SCALE = Field("Loss function scale parameter", 30)
MARGIN = Field("Loss function margin parameter", 0.4)
WEIGHT = Field("Loss function weight", 1.0)
OPTIMIZER = Field("Optimizer", "SGD")
RATE = Field("Initial learning rate", 0.03)
BATCH = Field("Training batch_size", needed=True)
EPOCHS = Field("Total training epochs", 200)
SAVE = Field("Checkpoint saving frequency", 10)
READERS = Field("Training data read threads", 4)
HALF = Field("Enable half-precision")
MODE = Field("Computing mode", STANDALONE)
WORKERS = Field("Workers", 1)
GPU = Field("GPU model", "8vCPU+60GB Mem+1xp100-ecs.gn5-c8g1.2xlarge")

FIELDS: tuple[Field, ...] = tuple(each for each in globals().values() if isinstance(each, Field))

# What is printed before "(recommended parameters ...)" or ", whose classification limit ...": the kind and what its
# margin is called. None: it has none.
LOSSES: dict[str, tuple[str, str | None]] = {
    "AMSoftmax": ("am-softmax", "margin"),
    "ArcFaceLoss": ("arcface", "margin_deg"),
    "CosFaceLoss": ("cosface", "margin"),
    "LargeMarginSoftmaxLoss": ("large-margin-softmax", "margin"),
    "SphereFaceLoss": ("sphereface", "margin"),
    "Model-parallel AMSoftmax": ("am-softmax", "margin"),
    "Model-parallel Softmax": ("softmax", None),
}


def help_text() -> str:
    """What `--help` prints."""
    rows = [f"  {each.name}{_default(each)}" for each in FIELDS]
    head = f"kinsight compat {SCRIPT} PARAMS.yaml [--dry-run] [--overwrite]"
    return "\n".join([head, "", "PARAMS.yaml, with names and values as the console's page prints them:", "", *rows])


def _default(field: Field) -> str:
    return " (must be given)" if field.needed else "" if field.default is None else f" [{field.default}]"
