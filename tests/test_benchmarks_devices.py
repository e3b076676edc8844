"""Where benchmarks run: GPUs hidden or demanded, TF32 off and on. GPUs are played by stand-ins."""

from __future__ import annotations

import copy
import json
import sys
from types import SimpleNamespace

import keras
import pytest
from click.testing import CliRunner

from benchmarks import devices, options, processes, speed
from benchmarks.machine import BACKENDS

BACKEND = keras.backend.backend()


def fakes(backend, gpu=True):
    """Stand-ins for a framework, and for a product that it computed."""
    switch = SimpleNamespace(allow_tf32=None)
    if backend == "torch":
        cuda = SimpleNamespace(get_device_name=lambda _: "H100", max_memory_allocated=lambda: 3 << 20)
        backends = SimpleNamespace(cuda=SimpleNamespace(matmul=switch), cudnn=SimpleNamespace(allow_tf32=None))
        product = SimpleNamespace(device=SimpleNamespace(type="cuda" if gpu else "cpu"))
        return SimpleNamespace(cuda=cuda, backends=backends), product
    if backend == "jax":
        device = SimpleNamespace(
            device_kind="H100" if gpu else "cpu",
            platform="gpu" if gpu else "cpu",
            memory_stats=lambda: {"peak_bytes_in_use": 3 << 20},
        )
        said = {}
        config = SimpleNamespace(update=said.__setitem__, said=said)
        return SimpleNamespace(devices=lambda: [device], config=config), SimpleNamespace(devices=lambda: [device])
    experimental = SimpleNamespace(
        get_device_details=lambda _: {"device_name": "H100"},
        get_memory_info=lambda _: {"peak": 3 << 20},
        enable_tensor_float_32_execution=lambda on: setattr(switch, "allow_tf32", on),
    )
    config = SimpleNamespace(list_physical_devices=lambda _: ["gpu"], experimental=experimental)
    product = SimpleNamespace(device=f"/job:localhost/device:{'GPU' if gpu else 'CPU'}:0")
    return SimpleNamespace(config=config, switch=switch), product


def play(monkeypatch, backend, gpu=True):
    module, product = fakes(backend, gpu)
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(keras.ops, "matmul", lambda *_: product)
    monkeypatch.setitem(sys.modules, backend, module)
    return module


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_device_is_where_a_product_lands(monkeypatch, backend):
    play(monkeypatch, backend)
    assert devices.name() == "H100"
    assert devices.peak_memory() == 3
    devices.demand("gpu")
    with pytest.raises(RuntimeError, match="computes on H100"):
        devices.demand("cpu")
    play(monkeypatch, backend, gpu=False)
    assert devices.name() == "cpu"
    assert devices.peak_memory() is None
    devices.demand("cpu")
    with pytest.raises(RuntimeError, match=f"no GPU: {backend} computes on the CPU"):
        devices.demand("gpu")


@pytest.mark.parametrize("on", [False, True])
def test_tf32_is_set_in_each_framework(monkeypatch, on):
    torch = play(monkeypatch, "torch")
    devices.set_tf32(on)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (on, on)
    jax = play(monkeypatch, "jax")
    devices.set_tf32(on)
    assert jax.config.said == {"jax_default_matmul_precision": "tensorfloat32" if on else "float32"}
    tensorflow = play(monkeypatch, "tensorflow")
    devices.set_tf32(None)
    assert tensorflow.switch.allow_tf32 is None
    devices.set_tf32(on)
    assert tensorflow.switch.allow_tf32 is on


def test_the_framework_at_hand_has_these_switches():
    devices.set_tf32(True)
    devices.set_tf32(False)
    assert devices.name()


def test_a_gpu_is_found_without_a_framework(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "Path", lambda _: tmp_path)
    monkeypatch.setattr(devices.shutil, "which", lambda _: None)
    assert [devices.choose(a) for a in (None, "gpu")] == ["cpu", "gpu"]
    (tmp_path / "nvidia0").touch()
    assert [devices.choose(a) for a in (None, "cpu")] == ["gpu", "cpu"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.choose(None) == "cpu"


def test_gpus_are_hidden_from_a_process_on_the_processor(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    hidden = processes.environment("jax", "cpu")
    assert (hidden["CUDA_VISIBLE_DEVICES"], hidden["JAX_PLATFORMS"]) == ("", "cpu")
    for device in ("gpu", None):
        assert "CUDA_VISIBLE_DEVICES" not in processes.environment("jax", device)


def test_a_backend_without_a_gpu_is_a_failed_row():
    if devices.has_gpu():
        pytest.skip("there is one")
    found = speed.measure_fresh(BACKEND, {"model": "bpnet", "device": "gpu", "tf32": True})
    assert found["error"].startswith(f"RuntimeError: no GPU: {BACKEND} computes on the CPU")
    assert found["tf32"] is True


def test_tf32_is_a_run_of_its_own(monkeypatch, tmp_path):
    known = json.loads(speed.RESULTS.read_text())["results"][0]
    asked = []

    def measure(backend, request, timeout):
        asked.append((request["device"], request["tf32"]))
        on = request["tf32"]
        memory = {"fast": 1234.4}
        seen = {"tf32": on, "tolerance": 0.05 if on else 0.001, "device": "H100", "peak_device_memory_mib": memory}
        return {**copy.deepcopy(known), "backend": backend, "model": request["model"], **seen}

    path = tmp_path / "speed_gpu.json"
    monkeypatch.setattr(speed, "measure_fresh", measure)
    monkeypatch.setattr(options, "FOLDER", tmp_path)
    outcome = CliRunner().invoke(speed.main, ["--device=gpu", "--models=bpnet", "--backends=jax"])
    assert outcome.exit_code == 0, outcome.output
    assert asked == [("gpu", False), ("gpu", True)]
    assert [r["tf32"] for r in json.loads(path.read_text())["results"]] == [False, True]
    lines = speed.table(json.loads(path.read_text())).splitlines()
    assert "with TF32: an error of up to 0.05 of the effect" in lines[0]
    assert "H100" in lines[0]
    assert lines[2].endswith("| device memory, MiB |")
    assert [line.split(" | ")[1] for line in lines[4:]] == ["jax", "jax, TF32"]
    assert all(line.endswith("| 1234 |") for line in lines[4:])
    assert "On the gpu." in outcome.output
