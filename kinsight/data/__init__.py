from kinsight.data.labels import read_class_names as read_class_names
from kinsight.data.records import Records as Records
from kinsight.data.sources.presence import missing_images as missing_images
from kinsight.data.sources.presence import require_images as require_images
from kinsight.data.sources.read import read_records as read_records
