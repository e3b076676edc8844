"""Models from files: each kind of file is read or refused with its remedy, and gives what it gave when saved."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
from keras import layers as L

from fastism.errors import ModelError
from fastism.loading import custom_objects, load_model, model_hash
from fastism.testing import randomize

LENGTH = 30
X = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (2, LENGTH))]


class Doubled(L.Layer):
    def call(self, x):
        return x * 2


def build(*more):
    x = keras.Input((LENGTH, 4))
    y = L.Conv1D(5, 3, activation="relu")(x)
    for layer in more:
        y = layer(y)
    return randomize(keras.Model(x, L.Dense(2)(L.Flatten()(y))))


def same(loaded, model):
    np.testing.assert_allclose(loaded.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.hdf5"])
def test_files_of_keras(tmp_path, name):
    pytest.importorskip("h5py")
    model = build()
    model.save(tmp_path / name)
    same(load_model(tmp_path / name), model)
    same(load_model(str(tmp_path / name)), model)


def test_custom_layers_are_named(tmp_path):
    model = build(Doubled())
    model.save(tmp_path / "custom.keras")
    with pytest.raises(
        ModelError, match=r"does not know \(Doubled\). Name the code that defines it: --custom module:Name"
    ):
        load_model(tmp_path / "custom.keras")
    same(load_model(tmp_path / "custom.keras", custom={"Doubled": Doubled}), model)


def doubled(x):
    return x * 2


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("custom", [Doubled(), L.Activation(doubled)], ids=["Doubled", "doubled"])
def test_what_keras_does_not_know_is_named_and_nothing_else(tmp_path, custom, ending, request):
    pytest.importorskip("h5py")
    name = request.node.callspec.id.partition("-")[0]
    build(L.ReLU(), custom).save(tmp_path / f"model.{ending}")
    with pytest.raises(ModelError, match=rf"does not know \({name}\)\. "):
        load_model(tmp_path / f"model.{ending}")


def test_custom_layers_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "my_own_layers.py").write_text("class Pool:\n    width = 3\n")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    assert custom_objects(["my_own_layers:Pool"])["Pool"].width == 3
    assert sys.path == path
    with pytest.raises(ValueError, match="module my_own_layers has no Other"):
        custom_objects(["my_own_layers:Other"])
    with pytest.raises(ValueError, match="module:Name is accepted"):
        custom_objects(["my_own_layers"])
    with pytest.raises(ImportError, match="module no_such_layers cannot be imported"):
        custom_objects(["no_such_layers:A"])


def test_python_code_runs_only_when_allowed(tmp_path):
    model = build(L.Lambda(lambda y: y + 1))
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(ModelError, match="runs when the model is loaded.* --unsafe-lambda"):
        load_model(tmp_path / "lambda.keras")
    same(load_model(tmp_path / "lambda.keras", unsafe_lambda=True), model)


def test_what_is_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no model at"):
        load_model(tmp_path / "none.keras")
    (tmp_path / "model.pt").write_bytes(b"torch")
    with pytest.raises(ModelError, match=r"ends in '.pt'; .keras, .h5, .hdf5 and SavedModel folders are accepted"):
        load_model(tmp_path / "model.pt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match=r"a folder without saved_model.pb"):
        load_model(tmp_path / "folder")
    (tmp_path / "broken.h5").write_bytes(b"no HDF5")
    with pytest.raises(ModelError, match="cannot be loaded as a Keras model"):
        load_model(tmp_path / "broken.h5")


def test_a_keras_file_that_was_cut_short_is_not_called_missing(tmp_path):
    path = tmp_path / "model.keras"
    x = keras.Input((8, 4))
    keras.Model(x, keras.layers.Flatten()(x)).save(path)
    whole = path.read_bytes()
    for size in (0, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=rf"no complete .keras file, .* {size:,} bytes .* Copy or save"):
            load_model(path)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="SavedModels are loaded there")
def test_a_saved_model_needs_tensorflow(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelError, match=r"Install tf_keras .* KERAS_BACKEND=tensorflow"):
        load_model(tmp_path / "saved")


@pytest.mark.filterwarnings("ignore")  # of Keras 2, about its own file formats
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras 2 is TensorFlow's")
@pytest.mark.parametrize("name", ["saved", "old.h5"])
def test_files_of_keras_2(tmp_path, name):
    tf_keras = pytest.importorskip("tf_keras")
    from fastism import FastISM, NaiveISM

    x = tf_keras.Input((LENGTH, 4))
    y = tf_keras.layers.Conv1D(5, 3, activation="relu")(x)
    model = tf_keras.Model(x, tf_keras.layers.Dense(2)(tf_keras.layers.Flatten()(y)))
    model.save(tmp_path / name)
    loaded = load_model(tmp_path / name)
    same(loaded, model)
    fast, naive = FastISM(loaded)(X), NaiveISM(loaded)(X)
    assert np.abs(fast - naive).max() <= 1e-4 * np.abs(naive).max()


def test_a_hash_is_of_what_is_in_the_file(tmp_path):
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).write_text(text)
        (tmp_path / f"{name}_folder").mkdir()
        (tmp_path / f"{name}_folder" / "part").write_text(text)
    a, b, c = (model_hash(tmp_path / n) for n in "abc")
    assert a == b != c
    assert len(a) == 64
    a, b, c = (model_hash(tmp_path / f"{n}_folder") for n in "abc")
    assert a == b != c
    (tmp_path / "a_folder" / "part").rename(tmp_path / "a_folder" / "other")
    assert model_hash(tmp_path / "a_folder") != b
