"""`run_dcnet.py` of Ascend's IVFast: its flags and files, run by Kinsight's partition."""
