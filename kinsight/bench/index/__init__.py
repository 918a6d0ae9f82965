"""`kinsight bench index`; see `job`."""
