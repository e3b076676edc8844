"""The only file that imports TensorFlow, JAX or torch.

Everything else of the package is written in ``keras.ops`` and NumPy, and in methods of torch's tensors where
:func:`in_place` says that they are. What differs between the backends is how a function is compiled, how weights reach
a compiled function, and how a tensor becomes a NumPy array.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

#: The ways to run a chunk: op by op, or compiled with XLA.
EAGER, XLA = "eager", "xla"


def name() -> str:
    """The Keras backend in use: ``"tensorflow"``, ``"jax"`` or ``"torch"``."""
    return keras.backend.backend()


def choose_mode(jit: bool | str) -> str:
    """How to run chunks on this backend.

    Args:
        jit: ``"auto"``, True or False, as users pass it.

    Returns:
        ``"eager"`` or ``"xla"``. torch always runs eagerly: compiling takes minutes and gained nothing where it was
        measured. On TensorFlow, XLA was faster than a graph without it on every model measured.
    """
    return EAGER if jit is False or name() == "torch" else XLA


def compile_function(fn: Callable[..., Any], variables: Sequence[Any], mode: str) -> Callable[..., Any]:
    """Compile ``fn`` of nested tensors for the backend in use.

    Args:
        fn: A function of (nested structures of) tensors, pure but for reading ``variables``; it must always be called
            with the same shapes.
        variables: The Keras variables that ``fn`` may read; their values at the time of each call are used.
        mode: ``"eager"`` or ``"xla"``.

    Returns:
        A function with the same arguments and results, as tensors of the backend.
    """
    backend = name()
    if backend == "torch":
        return _without_gradients(fn)
    if mode == EAGER:
        return fn
    if backend == "jax":
        return _OnJax(fn, variables)
    if backend == "tensorflow":
        import tensorflow as tf

        graph = _traced_once(tf.function(fn, autograph=False))
        return _or_else(_traced_once(tf.function(fn, jit_compile=True, autograph=False)), graph, tf.errors.OpError)
    raise RuntimeError(
        f"Keras backend {backend!r} is not supported; set KERAS_BACKEND to 'tensorflow', 'jax' or 'torch' "
        "before importing keras."
    )


def starting(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """What a thread calls to run a compiled function: what is set for the calling thread holds for it, too."""
    return function.starting(*args) if isinstance(function, _OnJax) else functools.partial(function, *args)


class _OnJax:
    """A function of nested tensors that JAX compiles, as it does for each thread's own settings, such as 64 bits.

    For another thread it is compiled ahead of the call, which then depends on nothing that is set for either.

    Args:
        fn, variables: As of :func:`compile_function`.
    """

    def __init__(self, fn: Callable[..., Any], variables: Sequence[Any]):
        import jax

        def stateless(values, *args):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return fn(*args)

        self._variables = variables
        self._jitted = jax.jit(stateless, **_jax_options())
        self._compiled: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *args: Any) -> Any:
        return self._jitted([v.value for v in self._variables], *args)

    def starting(self, *args: Any) -> Callable[[], Any]:
        """What another thread calls to run the function with what is set for this one."""
        import jax

        if getattr(jax.config, "jax_disable_jit", False):
            found = self(*args)
            return lambda: found
        leaves, tree = jax.tree.flatten(([v.value for v in self._variables], *args))
        ours = [i for i, x in enumerate(leaves) if not isinstance(x, jax.Array)]
        for i, x in zip(ours, jax.device_put([leaves[i] for i in ours]), strict=True):
            leaves[i] = x
        given = jax.tree.unflatten(tree, leaves)
        kinds = tuple((x.shape, x.dtype, x.sharding, getattr(x, "committed", None)) for x in leaves)
        key = (kinds, *(str(getattr(jax.config, name, None)) for name in _JAX_SETTINGS))
        if key not in self._compiled:
            self._compiled[key] = self._jitted.lower(*given).compile()
        return functools.partial(self._compiled[key], *given)


#: Settings of a thread that decide what JAX compiles for the same arguments.
_JAX_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_device",
    "jax_numpy_dtype_promotion",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
)


@functools.cache
def _jax_options() -> dict[str, Any]:
    """Arguments of ``jax.jit`` for chunks: on a CPU, where it has the choice, with its older way of fusing.

    The newer way, which TensorFlow's XLA does not take, is a fifth to a third slower on networks that pool.
    """
    import jax

    options: dict[str, Any] = {"compiler_options": {"xla_cpu_use_fusion_emitters": False}}
    if on_gpu():
        return {}
    try:
        jax.jit(lambda x: x + 1, **options)(np.zeros(1, "float32"))
    except Exception:  # a JAX without such options, an XLA without this one: each version says so in its own way
        return {}
    return options


def any_batch(
    fn: Callable[..., Any], shapes: Sequence[tuple[int | None, ...]], dtypes: Sequence[str]
) -> Callable[..., Any]:
    """``fn`` of a list of tensors, run so that TensorFlow does not see how many rows they have.

    Where it does, Keras takes an addend of as many rows as there are channels for a bias, and adds it wrongly; the
    model's own ``predict`` never meets this.
    """
    if name() != "tensorflow":
        return _without_gradients(fn) if name() == "torch" else fn
    import tensorflow as tf

    specs = [tf.TensorSpec((None, *shape), dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
    return tf.function(fn, input_signature=[specs], autograph=False).get_concrete_function()


def as_predicted(
    fn: Callable[..., Any],
    variables: Sequence[Any],
    shapes: Sequence[tuple[int | None, ...]],
    dtypes: Sequence[str],
) -> Callable[..., Any]:
    """``fn`` of a list of tensors, run as the model's ``predict`` would, whatever the number of rows.

    JAX compiles it whole, which takes a fraction of the time and memory that compiling its operations one by one takes,
    and keeps what it assigns to ``variables``, such as the states of random numbers. What cannot be compiled so runs
    op by op.
    """
    if name() != "jax":
        return any_batch(fn, shapes, dtypes)
    import jax

    assigned: list[Any] = []

    def stateless(values, *args):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))) as scope:
            given = dict(scope.state_mapping)
            result = fn(*args)
        assigned[:] = [v for v in variables if scope.state_mapping[id(v)] is not given[id(v)]]
        return result, [scope.get_current_value(v) for v in assigned]

    compiled = jax.jit(stateless)

    def run(*args):
        result, states = compiled([v.value for v in variables], *args)
        for variable, state in zip(assigned, states, strict=True):
            variable.assign(state)
        return result

    return _or_else(run, fn, Exception)


def with_shape(tensor: Any, shape: Sequence[int]) -> Any:
    """``tensor``, told its shape without the batch axis where TensorFlow's tracing lost it (as a median does)."""
    if name() == "tensorflow" and hasattr(tensor, "set_shape") and not tensor.shape[1:].is_fully_defined():
        tensor.set_shape((None, *[n or None for n in shape]))
    return tensor


def _traced_once(function: Any) -> Callable[..., Any]:
    """A ``tf.function`` that is traced by its first call, without TensorFlow's warnings that it is made often."""
    concrete: list[Callable[..., Any]] = []

    def run(*args):
        if not concrete:
            concrete.append(function.get_concrete_function(*args))
        return concrete[0](*args)

    return run


def _or_else(first: Callable[..., Any], second: Callable[..., Any], failure: type[Exception]) -> Callable[..., Any]:
    """``first``, or from its first failure on ``second``: not every layer that runs in a graph compiles with XLA."""
    chosen = [first]

    def run(*args):
        choice = chosen[0]  # another thread may choose anew meanwhile
        try:
            return choice(*args)
        except failure:
            if choice is second:
                raise
            chosen[0] = second
            return second(*args)

    return run


def _without_gradients(fn: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    def run(*args):
        with torch.no_grad():
            return fn(*args)

    return run


def with_autograph(fn: Callable[..., Any]) -> Callable[..., Any]:
    """``fn`` of nested TensorFlow tensors, run so that in a graph Python may branch on tensors, as in Keras 2's own."""
    import tensorflow as tf

    return fn if tf.executing_eagerly() else tf.function(fn)


def in_graph() -> bool:
    """Whether TensorFlow is tracing a function, in which tensors have no values."""
    if name() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.executing_eagerly()


def is_asynchronous() -> bool:
    """Whether functions return before their results are there: on JAX, and on a GPU."""
    return name() == "jax" or on_gpu()


def runs_two_at_once() -> bool:
    """Whether two compiled functions at a time take less than one after the other: of XLA, on a CPU.

    Many of a function's operations run on one core.
    """
    return name() != "torch" and not on_gpu()


def on_gpu() -> bool:
    """Whether the backend computes on a GPU."""
    if name() == "torch":
        import torch

        return torch.cuda.is_available()
    if name() == "jax":
        import jax

        return jax.devices()[0].platform != "cpu"
    import tensorflow as tf

    return bool(tf.config.get_visible_devices("GPU"))


def in_place() -> bool:
    """Whether operations run one by one on tensors that may be written into: on torch."""
    return name() == "torch"


@functools.cache
def _torch_dtype(dtype: str) -> Any:
    import torch

    return getattr(torch, dtype)


def hooks_every_module() -> bool:
    """Whether functions are registered with torch that it calls before or after every module."""
    if name() != "torch":
        return False
    from torch.nn.modules import module

    registered = ("_global_forward_hooks", "_global_forward_pre_hooks")
    return any(getattr(module, hooks, None) for hooks in registered)


def contiguous(x: Any) -> Any:
    """A tensor whose rows lie side by side in memory, where that is for us to say: on torch."""
    return x.contiguous() if name() == "torch" else x


def has_dtype(tensor: Any, dtype: str) -> bool:
    """Whether a tensor of the backend has a dtype."""
    return tensor.dtype == (_torch_dtype(dtype) if name() == "torch" else dtype)


def to_tensor(array: np.ndarray, like: Any) -> Any:
    """A NumPy array as a torch tensor, on the device of another."""
    import torch

    return torch.from_numpy(array).to(like.device, non_blocking=True)


#: Multiply-accumulates and rows from which another library's products on a CPU are worth the detour they take.
_LARGE_PRODUCT, _MANY_ROWS = 1 << 21, 320


def matmul(x: Any, matrix: Any) -> Any:
    """(M, C) times (C, D)."""
    if name() == "torch" and _by_onednn(x, matrix):
        return _onednn(x, matrix)
    return keras.ops.matmul(x, matrix)


def multiply_into(out: Any, x: Any, matrix: Any, *, add: bool) -> None:
    """Write (M, C) times (C, D) into (M, D), or add it to what is there; torch only."""
    if not _by_onednn(x, matrix):
        out.addmm_(x, matrix, beta=int(add))
    elif add:
        out.add_(_onednn(x, matrix))
    else:
        out.copy_(_onednn(x, matrix))


def _by_onednn(x: Any, matrix: Any) -> bool:
    """Whether torch should multiply with oneDNN, which it does only as a convolution.

    On a CPU it multiplies float32 matrices with MKL, which on some processors reaches half of what oneDNN does.
    oneDNN copies the matrix first, which few rows do not repay.
    """
    import torch

    large = x.shape[0] >= _MANY_ROWS and x.shape[0] * x.shape[1] * matrix.shape[1] >= _LARGE_PRODUCT
    plain = x.device.type == "cpu" and x.dtype == matrix.dtype == torch.float32 and not x.requires_grad
    return large and plain and torch.backends.mkldnn.enabled and _onednn_is_quicker()


@functools.cache
def _onednn_is_quicker() -> bool:
    """Whether oneDNN adds a product to a matrix sooner than MKL does, on this processor; measured once."""
    import torch

    x, matrix, out = (torch.ones(shape) for shape in ((4096, 128), (128, 128), (4096, 128)))
    ways = (lambda: out.addmm_(x, matrix, beta=0), lambda: out.copy_(_onednn(x, matrix)))
    times: list[list[float]] = [[], []]
    with torch.no_grad():
        for _ in range(7):
            for way, taken in zip(ways, times, strict=True):
                begun = time.perf_counter()
                way()
                taken.append(time.perf_counter() - begun)
    return min(times[1]) < min(times[0])


def _onednn(x: Any, matrix: Any) -> Any:
    """(M, C) times (C, D) as a convolution of one tap."""
    import torch

    taps = matrix.t()[:, :, None, None]
    y = torch.nn.functional.conv2d(x[None, None].permute(0, 3, 1, 2), taps)
    return y.permute(0, 2, 3, 1).reshape(x.shape[0], -1)


def take_rows(x: Any, numbers: Any) -> Any:
    """Rows of (R, C) by their numbers, none of which is out of range.

    Keras's function, and JAX's, ask of every number whether it is negative, or too large, for which XLA no longer
    vectorises what reads the rows: many times slower.
    """
    if name() == "jax":
        from jax import lax

        rank = numbers.ndim
        picked = lax.GatherDimensionNumbers(offset_dims=(rank,), collapsed_slice_dims=(0,), start_index_map=(0,))
        return lax.gather(x, numbers[..., None], picked, slice_sizes=(1, x.shape[1]), mode="promise_in_bounds")
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.gather(x, numbers)
    return keras.ops.take(x, numbers, axis=0)


def slice_rows(x: Any, first: Any, count: int) -> Any:
    """``count`` rows of a matrix from row ``first`` on, an int32 scalar.

    On TensorFlow by their numbers: of a slice XLA makes a part of the product that reads it, which is then 20 times
    slower.
    """
    if name() == "tensorflow":
        return take_rows(x, first + keras.ops.arange(count, dtype="int32"))
    # both starts of one dtype: JAX takes a Python 0 for an int64 where it computes in float64
    return keras.ops.slice(x, (first, np.int32(0)), (count, x.shape[1]))


def to_numpy(tensor: Any) -> np.ndarray:
    """A tensor of the backend (on any device, any float type) as a NumPy array."""
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the computer or of a device, does not suffice."""
    if isinstance(error, MemoryError) or type(error).__name__ in ("ResourceExhaustedError", "OutOfMemoryError"):
        return True
    text = str(error).lower()
    said = ("out of memory", "resource_exhausted", "not enough memory", "failed to allocate", "oom when allocating")
    return isinstance(error, RuntimeError) and any(s in text for s in said)


def free_device_memory() -> int | None:
    """Bytes that are free on the GPU in use; None on a CPU, and where the device does not say."""
    if not on_gpu():
        return None
    if name() == "torch":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    if name() == "jax":
        import jax

        stats = jax.devices()[0].memory_stats()
        return int(stats["bytes_limit"] - stats["bytes_in_use"]) if stats else None
    import tensorflow as tf

    held = tf.config.experimental.get_memory_info("GPU:0")["current"]
    return max(_tensorflow_limit() - int(held), 1 << 30)


@functools.cache
def _tensorflow_limit() -> int:
    """Bytes that TensorFlow may take of the first GPU."""
    from tensorflow.python.client import device_lib  # the only place where it says so

    return next(int(d.memory_limit) for d in device_lib.list_local_devices() if d.device_type == "GPU")
