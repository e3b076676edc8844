"""Layers of which only the reach is known: they are run as they are, on short stretches of the sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import keras.src.backend
import numpy as np
from keras import ops

from fastism import kernels
from fastism.rules.step import DELTA, VALUE, At, Given, Local, Refuse, Step, Tensor, only
from fastism.window import Ints, Slide, Span, constant, same_padding, through


class Framed(Step):
    """A layer that slides along positions, run whole on a frame that holds all that a window's outputs read.

    A frame that touches an end of the sequence begins or ends there, so whatever the layer does at the ends it does in
    the frame, too. Frames lie on the layer's stride and are as long as the sequence is, modulo the stride.

    Args:
        f: The layer, on full tensors (B, T, ...) of any T.
        slide: Its map of positions.
    """

    def __init__(self, f: Callable[[Tensor], Tensor], slide: Slide):
        self.f, self.slide = f, slide

    def evaluate(self, *values: Tensor) -> Tensor:
        return self.f(values[0])

    def place(self, given: Given) -> Local:
        span, slide = only(given.spans), self.slide
        out = through(slide, span, given.out_shape[0], need=given.need)
        start = np.maximum(out.start * slide.stride - slide.pad, 0) // slide.stride * slide.stride
        end = np.minimum((out.start + out.width - 1) * slide.stride - slide.pad + slide.reach + 1, span.length)
        width = max(int((end - start).max()), slide.reach + 1)
        width += (span.length - width) % slide.stride
        if width >= span.length:
            start, width = np.zeros_like(start), span.length
        frame = Span(np.minimum(start, span.length - width), width, span.lo, span.hi, span.length)
        self._check(given, width)
        return Local(out, (DELTA,), VALUE, frames=(frame,), taps=given.inputs)

    def _check(self, given: Given, width: int) -> None:
        whole = keras.KerasTensor((None, *given.shapes[0]), dtype=given.dtype)
        part = keras.KerasTensor((None, width, *given.shapes[0][1:]), dtype=given.dtype)
        try:
            lengths = [keras.src.backend.compute_output_spec(self.f, x).shape[1] for x in (whole, part)]
        except Exception as error:  # whatever a layer does to another length
            raise Refuse(f"it does not run on {width} positions ({type(error).__name__})") from None
        if lengths[0] - lengths[1] != (given.shapes[0][0] - width) // self.slide.stride:
            raise Refuse(f"it turns {width} positions into {lengths[1]}, which does not fit its declared stride")

    def run(self, at: At):
        runtime, out, (frame,) = at.runtime, only([at.local.span]), at.local.frames
        reference = runtime.gather(at.given.inputs[0], frame)
        value = at.window.delta_in(frame)
        value = ops.cast(value, reference.dtype) + reference
        first = frame.start // self.slide.stride - out.start
        fixed = constant(first)
        offset = runtime.start(frame) // self.slide.stride - runtime.start(out) if fixed is None else fixed

        def outputs(x):
            g, m = x.shape[:2]
            y = kernels.unflat(self.f(kernels.flat(x)), g, m)
            if fixed is None:  # the reference is one row if it is whole
                y = ops.broadcast_to(y, (runtime.groups, *y.shape[1:]))
            return kernels.place(y, offset, out.width)

        return at.out(value=outputs(value), reference=outputs(reference))

    def backward(self, lo: Ints, hi: Ints, given: Given) -> tuple[Ints, Ints]:
        return self.slide.backward(lo, hi)


def sliding(layer: type, length: int, kernel: Any, stride: Any, dilation: Any, padding: Any) -> Slide:
    """The map of positions that a user declares for a class of layers.

    Raises:
        ValueError: If a setting is no positive whole number, or the padding not known.
    """
    k, s, d = (_whole(layer, n, v) for n, v in (("kernel", kernel), ("stride", stride), ("dilation", dilation)))
    pads = {"valid": 0, "causal": (k - 1) * d, "same": same_padding(length, k, s, d)}
    number = pads[padding] if isinstance(padding, str) and padding in pads else padding
    if not isinstance(number, int) or number < 0:
        raise ValueError(
            f"padding of {layer.__name__} is {padding!r}; 'valid', 'same', 'causal', or the number of positions put "
            "before the first is accepted."
        )
    return Slide(k, s, d, number)


def _whole(layer: type, name: str, setting: Any) -> int:
    number = setting[0] if isinstance(setting, tuple | list) else setting
    if not isinstance(number, int | np.integer) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{name} of {layer.__name__} is {number!r}; a positive whole number is accepted.")
    return int(number)
