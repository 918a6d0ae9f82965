"""The demo: an embedded set of symbols, and the main job on it.

Importing this package imports nothing: the processes that draw need no torch.
"""
