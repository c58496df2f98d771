"""DINO on single cells, written plainly: what every fast path is measured against, and must equal.

fp32, one image after the other, transforms one after the other, a loss over pairs of views, loops over parameters. It shares no code with
`dino4cells`, so that a mistake there is not repeated here.
"""
