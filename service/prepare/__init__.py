"""From decoded pixels to the tensor a network reads, and the way back to the source grid.

Training and serving call the very same functions of this package, so that a network never meets an image in
service that was prepared otherwise than the ones it learned from. A bundle's manifest names the steps
(`[input] steps`) and gives their arguments (`[parameters]`).
"""
