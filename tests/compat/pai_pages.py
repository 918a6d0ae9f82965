"""The commands of PAI's page on image classification as they stand there, and its parameters with their defaults."""

SINGLE = """pai -name easy_vision_ext
               -Dbuckets='{bucket_name}.{oss_host}/{path}'
               -Darn='acs:ram::*********:role/aliyunodpspaidefaultrole'
               -DossHost='{oss_host}'
               -DgpuRequired=100
               -Dcmd train
               -Dparam_config '
                 --model_type Classification
                 --backbone  inception_v4
                 --num_classes 10
                 --num_epochs 1
                 --model_dir oss://pai-vision-data-sh/test/cifar_inception_v4
                 --use_pretrained_model true
                 --train_data oss://pai-vision-data-sh/data/test/cifar10/*.tfrecord
                 --test_data oss://pai-vision-data-sh/data/test/cifar10/*.tfrecord
                 --num_test_example 20
                 --train_batch_size 32
                 --test_batch_size=32
                 --image_size 299
                 --initial_learning_rate 0.01
                 --staircase true   '
"""

SEVERAL = """pai -name easy_vision_ext
               -Dbuckets='{bucket_name}.{oss_host}/{path}'
               -Darn='acs:ram::*********:role/aliyunodpspaidefaultrole'
               -DossHost='{oss_host}'
               -Dcmd train
               -Dcluster='{
                 \\"ps\\": {
                     \\"count\\" : 1,
                     \\"cpu\\" : 600
                 },
                 \\"worker\\" : {
                     \\"count\\" : 3,
                     \\"cpu\\" : 800,
                     \\"gpu\\" : 100
                 }
               }'
               -Dparam_config='
                 --model_type Classification
                 --backbone  inception_v4
                 --num_classes 10
                 --num_epochs 1
                 --model_dir oss://pai-vision-data-sh/test/cifar_inception_v4_dis
                 --use_pretrained_model true
                 --train_data oss://pai-vision-data-sh/data/test/cifar10/*.tfrecord
                 --test_data oss://pai-vision-data-sh/data/test/cifar10/*.tfrecord
                 --num_test_example 20
                 --train_batch_size 32
                 --test_batch_size=32
                 --image_size 299
                 --initial_learning_rate 0.01
                 --staircase true
               '
"""

COMMANDS = {
    "single": SINGLE,
    "several": SEVERAL,
    "single-multilabel": SINGLE.replace("model_type Classification", "model_type MultiLabelClassification"),
    "several-multilabel": SEVERAL.replace("model_type Classification", "model_type MultiLabelClassification"),
}

# Name: default; None: it must be given, or is empty.
PARAM_CONFIG = {
    "model_type": None,
    "backbone": "inception_v4",
    "num_classes": None,
    "image_size": 224,
    "use_crop": True,
    "eval_each_category": False,
    "optimizer": "momentum",
    "lr_type": "exponential_decay",
    "initial_learning_rate": 0.01,
    "decay_epochs": [20],
    "decay_factor": 0.95,
    "staircase": True,
    "power": 0.9,
    "learning_rates": None,
    "train_data": None,
    "test_data": None,
    "train_batch_size": None,
    "test_batch_size": None,
    "train_num_readers": 4,
    "model_dir": None,
    "pretrained_model": None,
    "use_pretrained_model": True,
    "num_epochs": None,
    "num_test_example": -1,
    "num_visualizations": 10,
    "save_checkpoint_epochs": 1,
    "num_train_images": 0,
    "label_map_path": None,
}

# Behind the page's parameters, of which the last of two counts.
SMALL = "--backbone lenet --image_size 28 --train_num_readers 0"


def appended(text: str, more: str) -> str:
    """The command with further parameters behind those it has."""
    head, quote, tail = text.rpartition("'")
    return f"{head} {more} {quote}{tail}"
