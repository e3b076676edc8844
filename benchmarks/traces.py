"""What the frameworks' own profilers say of a function: which operations it runs, and how long each takes.

JAX and TensorFlow write what XLA runs into a file, which JAX reads; torch keeps it in memory.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: What is not a kernel, but runs those within it.
CONTAINERS = frozenset({"call", "while", "conditional"})
#: Words in the name of an operation that multiplies matrices, whatever is fused with it.
PRODUCT = re.compile(r"dot|ynn|\w*matmul\w*|\w*einsum|\w*gemm\w*|conv|convolution|cublas|cudnn|mkldnn|(b?add)?b?mm")
#: Words in the names of operations that move values, or write the same ones everywhere.
MOVES = frozenset(
    "arange bitcast broadcast cat clone concatenate constant copy dynamic embedding fill gather index iota pad put "
    "repeat reshape reverse roll scatter slice stack take tile transpose update zero".split()
)
#: Words that say nothing of what an operation does.
NEUTRAL = frozenset({"aten", "fusion", "impl", "nd", "wrapped"})
#: Operations of torch that touch no values: what they take is the price of a call.
VIEWS = frozenset(
    "alias as_strided contiguous detach empty empty_like empty_strided expand flatten item lift_fresh "
    "local_scalar_dense narrow new_empty permute reshape reshape_alias resize resolve_conj resolve_neg result_type "
    "select slice split squeeze t to to_copy transpose unbind unfold unsafe_view unsqueeze view".split()
)


def kind(name: str) -> str:
    """What an operation does, by its name.

    Returns:
        ``"products"``, ``"moves"``, ``"calls"`` for views of torch, or else ``"passes"``: element-wise, reductions.
    """
    space, _, op = name.partition("::")
    if space == "aten" and op.strip("_") in VIEWS:
        return "calls"
    words = set(re.findall(r"[a-z]+", name.lower().replace("index_select", "index"))) - NEUTRAL
    if any(PRODUCT.fullmatch(word) for word in words):
        return "products"
    return "moves" if words and words <= MOVES else "passes"


def shares(run: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Which share of its time a function spends in each operation.

    Args:
        run: The function, compiled and warm; it waits for its results.
        repeats: How often it runs while it is watched.

    Returns:
        Shares by name. They add up to 1 at most: the rest is what no operation accounts for.

    Raises:
        RuntimeError: If JAX, which reads the traces of TensorFlow too, is not installed; or if nothing ran with XLA.
    """
    import keras

    backend = keras.backend.backend()
    taken: list[float] = []

    def repeated() -> None:
        begun = time.perf_counter()
        for _ in range(repeats):
            run()
        taken.append(time.perf_counter() - begun)

    seconds = _of_torch(repeated) if backend == "torch" else shared_out(_of_xla(repeated, backend))
    whole = max(taken[0], sum(seconds.values()))
    return {name: value / whole for name, value in seconds.items()}


def shared_out(events: Iterable[tuple[str, float, float]]) -> dict[str, float]:
    """Seconds of each name, where those that run at once share the time: the sum is the time that anything runs.

    Args:
        events: Name, begin and end of each, in seconds.
    """
    edges = [edge for name, begin, end in events if end > begin for edge in ((begin, True, name), (end, False, name))]
    found: dict[str, float] = defaultdict(float)
    running: list[str] = []
    last = 0.0
    for at, begins, name in sorted(edges):
        for each in running:
            found[each] += (at - last) / len(running)
        if begins:
            running.append(name)
        else:
            running.remove(name)
        last = at
    return found


def kernels(planes: Iterable[Any]) -> Iterator[tuple[str, float, float]]:
    """Name, begin and end, in seconds, of all that XLA ran: on a GPU what its streams hold, else on any thread."""
    planes = list(planes)
    for plane in [p for p in planes if p.name.startswith("/device:GPU")] or planes:
        for line in plane.lines:
            on_stream = line.name.startswith("Stream")
            for event in line.events:
                name = dict(event.stats).get("hlo_op", event.name if on_stream else None)
                if name is not None and name.partition(".")[0] not in CONTAINERS:
                    yield name, event.start_ns / 1e9, (event.start_ns + event.duration_ns) / 1e9


def _of_torch(run: Callable[[], None]) -> Mapping[str, float]:
    from torch import cuda
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    on_gpu = cuda.is_available()
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu) as watched:
        run()
    called = [row for row in watched.key_averages() if row.device_type == DeviceType.CPU]
    return {row.key: (row.self_device_time_total if on_gpu else row.self_cpu_time_total) / 1e6 for row in called}


def _of_xla(run: Callable[[], None], backend: str) -> list[tuple[str, float, float]]:
    try:
        from jax.profiler import ProfileData
    except ImportError as error:
        raise RuntimeError("jax is not installed, which reads the traces of XLA; pip install jax") from error
    with tempfile.TemporaryDirectory() as folder:
        with (_jax_trace if backend == "jax" else _tensorflow_trace)(folder):
            run()
        files = Path(folder).rglob("*.xplane.pb")
        found = [event for file in files for event in kernels(ProfileData.from_file(str(file)).planes)]
    if not found:
        raise RuntimeError("the trace holds no operation of XLA: what ran was not compiled")
    return found


@contextmanager
def _jax_trace(folder: str) -> Iterator[None]:
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # each call of Python would take longer
    with jax.profiler.trace(folder, profiler_options=options):
        yield


@contextmanager
def _tensorflow_trace(folder: str) -> Iterator[None]:
    import tensorflow as tf

    tf.profiler.experimental.start(folder, tf.profiler.experimental.ProfilerOptions(host_tracer_level=3))
    try:
        yield
    finally:
        tf.profiler.experimental.stop()
