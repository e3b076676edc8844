"""Which device a measurement runs on: chosen, hidden, demanded, and how precisely it multiplies.

A process measures on the device that it was asked to, or fails; nothing falls back to the processor unseen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

CPU, GPU = "cpu", "gpu"
#: What hides every GPU from a process.
HIDDEN = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "KERAS_TORCH_DEVICE": "cpu"}


def choose(asked: str | None) -> str:
    """The device asked for, or the GPU where this computer has one, or the processor."""
    return asked or (GPU if has_gpu() else CPU)


def has_gpu() -> bool:
    """Whether this computer has a GPU of NVIDIA's that is not hidden. Imports no framework."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU" in listed.stdout


def precisions(device: str) -> tuple[bool | None, ...]:
    """The settings of TF32 to measure: off and on, on a GPU; None where there is no such setting."""
    return (None,) if device == CPU else (False, True)


# ---------------------------------------------------------------------- in the measuring process


def demand(device: str) -> None:
    """Go no further on another device than this.

    Raises:
        RuntimeError: If Keras computes elsewhere; the message says what to do.
    """
    import keras

    found = name()
    if (found == CPU) == (device == CPU):
        return
    backend = keras.backend.backend()
    if device == GPU:
        raise RuntimeError(f"no GPU: {backend} computes on the CPU; install its build for GPUs, or take --device cpu")
    raise RuntimeError(f"{backend} computes on {found}, which could not be hidden; take --device gpu")


def name() -> str:
    """What a product of Keras is computed on: the accelerator's name, or ``"cpu"``."""
    import keras

    backend, product = keras.backend.backend(), keras.ops.matmul([[1.0]], [[1.0]])
    if backend == "torch":
        kind = product.device.type
        return sys.modules["torch"].cuda.get_device_name(product.device) if kind == "cuda" else kind
    if backend == "jax":
        device = next(iter(product.devices()))
        return device.device_kind if device.platform != CPU else CPU
    if "GPU" not in product.device:
        return CPU
    config = sys.modules["tensorflow"].config
    details = config.experimental.get_device_details(config.list_physical_devices("GPU")[0])
    return details.get("device_name", GPU)


def set_tf32(on: bool | None) -> None:
    """Let a GPU multiply float32 in TF32, or not; None leaves all as it is. Before anything is compiled."""
    import keras

    if on is None:
        return
    backend = keras.backend.backend()
    if backend == "torch":
        backends = sys.modules["torch"].backends
        backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = on
    elif backend == "jax":
        sys.modules["jax"].config.update("jax_default_matmul_precision", "tensorfloat32" if on else "float32")
    else:
        sys.modules["tensorflow"].config.experimental.enable_tensor_float_32_execution(on)


def peak_memory() -> float | None:
    """Most device memory that this process's tensors have taken so far, in MiB; None on the processor."""
    import keras

    if name() == CPU:
        return None
    backend = keras.backend.backend()
    if backend == "torch":
        peak: Any = sys.modules["torch"].cuda.max_memory_allocated()
    elif backend == "jax":
        peak = (sys.modules["jax"].devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    else:
        peak = sys.modules["tensorflow"].config.experimental.get_memory_info("GPU:0")["peak"]
    return None if peak is None else peak / 2**20


def wait(result: Any) -> Any:
    """The result, once it is computed: frameworks return from a call while a GPU still works."""
    import keras

    backend = keras.backend.backend()
    if backend == "jax":
        return sys.modules["jax"].block_until_ready(result)
    if backend == "torch":
        cuda = sys.modules["torch"].cuda
        if cuda.is_available():
            cuda.synchronize()
        return result
    tensors = [t for t in keras.tree.flatten(result) if "GPU" in getattr(t, "device", "")]
    for tensor in tensors[-1:]:  # of one stream: the last is ready when all are
        keras.ops.convert_to_numpy(keras.ops.reshape(tensor, (-1,))[:1])
    return result
