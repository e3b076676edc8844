"""Which of the ways to convolve a window is the cheapest."""

from __future__ import annotations

from fastism import karatsuba

#: By its inputs, by its inputs with positions and taps halved, by its outputs, by the backend's own convolution.
SPREAD, HALVES, COLLECT, LIBRARY = "spread", "halves", "collect", "library"

#: Relative costs of a multiply-accumulate in a large product and in the backend's convolution, and of a value written
#: to memory and read again.
PRODUCT, LIBRARY_PRODUCT, TRAFFIC = 0.008, 0.01, 0.5
#: The same of a value of the input copied, and of one of the output added up to halve a convolution.
COPY, HALF_OUT = 0.25, 0.5
#: What a halved convolution may cost of the cheapest other way: it makes more and smaller products.
HALVES_PAY = 0.92

#: Channels of an output below which the backend's convolution is slow.
FEW_CHANNELS = 16
#: Halvings at most: a fourth would make 81 products.
MOST_HALVINGS = 3


def cheapest(
    width: int, out: int, cin: int, cout: int, kernel: int, dilation: int, *, halves: bool = True
) -> tuple[str, int]:
    """The cheapest way to convolve a window, and how many neighbours it takes at once, or how often it is halved.

    The ways are :data:`SPREAD`, which with one neighbour is :func:`fastism.convolving.spread` and with more
    :func:`~fastism.convolving.spread_in_blocks`, :data:`HALVES`, :func:`fastism.karatsuba.spread_by_halves`,
    :data:`COLLECT`, :func:`~fastism.convolving.collect_in_blocks`, and :data:`LIBRARY`,
    :func:`~fastism.convolving.convolve`. Counted for each channel of the output: products, of which the processor does
    many at once, and values written between the products and their sum, read once more for each block of outputs, or
    copied to fill the last block, which cost memory traffic.

    Args:
        width, out: Positions of the window and of the output's window.
        cin, cout: Channels of the input and of the output.
        kernel, dilation: Of the convolution.
        halves: Whether :data:`HALVES` may be chosen.
    """

    def cost(way: tuple[str, int]) -> float:
        name, block = way
        if way == (SPREAD, 1):
            return width * kernel * (PRODUCT * cin + TRAFFIC)
        if name == HALVES:
            pairs, inputs, outputs = karatsuba.counts(width, kernel, block)
            return (pairs * (PRODUCT * cin + TRAFFIC) + inputs * COPY * cin / cout + outputs * HALF_OUT) / HALVES_PAY
        if name == LIBRARY:
            return out * (kernel * cin * LIBRARY_PRODUCT + 4 * TRAFFIC)
        rows = -(-(block + kernel - 1) // block)
        filled = -(-(out if name == COLLECT else width) // (block * dilation)) * block * dilation
        turned = 2 * TRAFFIC if dilation > 1 else 0.0
        moved = 1 + rows * cin / cout if name == COLLECT else rows
        copied = width * COPY * cin / cout if name == SPREAD and dilation == 1 and filled > width else 0.0
        return filled * (rows * block * PRODUCT * cin + moved * TRAFFIC + turned) + copied

    ways = [(SPREAD, block) for block in (1, 2, 4, 8, 16)]
    if halves and dilation == 1:
        ways += [(HALVES, depth) for depth in range(1, MOST_HALVINGS + 1) if 2**depth <= min(width, kernel)]
    if kernel > 1 and out < width:
        ways += [(COLLECT, block) for block in (1, 2, 4, 8, 16)]
    if kernel > 1 and cout >= FEW_CHANNELS:
        ways.append((LIBRARY, 1))
    return min(ways, key=cost)
