"""The container image that the components run in; on a laptop (kfp.local) they run in this Python instead."""

IMAGE = "dino4cells-python:0.1.0"
