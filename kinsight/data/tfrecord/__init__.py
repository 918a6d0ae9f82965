"""TFRecord files of tf.train.Example messages: framing with checksums, messages, an index for random access."""

from kinsight.data.tfrecord.example import Example, Keys, Sample, encode_example, parse_example
from kinsight.data.tfrecord.framing import frame, read_frames
from kinsight.data.tfrecord.shard_index import ShardIndex, index_shards, read_samples
from kinsight.data.tfrecord.shards import find_shards

__all__ = [
    "Example",
    "Keys",
    "Sample",
    "ShardIndex",
    "encode_example",
    "find_shards",
    "frame",
    "index_shards",
    "parse_example",
    "read_frames",
    "read_samples",
]
