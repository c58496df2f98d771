"""How time and memory grow with what a user makes larger: `make bench-full`.

Small networks and images are used wherever size is not the point. Of each sweep, the exponent of growth over its upper half is printed
beside the largest that the algorithm explains; a larger one means that something grows which should not.
"""
