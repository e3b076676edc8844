import keras
import numpy as np
import pytest

from fastism.models import basset_model, bpnet_dense_model, bpnet_model, factorized_basset_model


def layer_names(model, *classes):
    return [layer.name for layer in model.layers if isinstance(layer, classes)]


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (basset_model, 5_977_301),
        (factorized_basset_model, 6_407_303),
        (bpnet_model, 119_298),
        (bpnet_dense_model, 26_226),
        (lambda: basset_model(500, 4, 3), 3_979_303),
        (lambda: factorized_basset_model(500, 4, 3), 4_409_305),
        (lambda: bpnet_model(num_tasks=2), 120_964),
        (lambda: bpnet_dense_model(inlen=500, outlen=200, filters=8, ndl=4), 2_714),
    ],
)
def test_parameter_counts_are_the_published_ones(build, parameters):
    assert build().count_params() == parameters


@pytest.mark.parametrize("build", [basset_model, factorized_basset_model])
def test_basset_shapes(build):
    model = build(seqlen=600, numchars=5, num_outputs=7, name="mine")
    assert model.name == "mine"
    assert model.input_shape == (None, 600, 5)
    assert model.output_shape == (None, 7)


def test_basset_layers():
    model = basset_model()
    assert layer_names(model, keras.layers.Conv1D, keras.layers.Dense) == [
        "conv1",
        "conv2",
        "conv3",
        "fc1",
        "fc2",
        "fc3",
    ]
    assert [layer.output.shape[1] for layer in model.layers if isinstance(layer, keras.layers.MaxPooling1D)] == [
        333,
        83,
        20,
    ]


def test_factorized_basset_layers():
    model = factorized_basset_model()
    expected = [f"conv1{letter}" for letter in "abcde"] + [f"conv2{letter}" for letter in "abc"] + ["conv3"]
    assert layer_names(model, keras.layers.Conv1D) == expected
    assert [layer.output.shape[1] for layer in model.layers if isinstance(layer, keras.layers.MaxPooling1D)] == [
        333,
        83,
        20,
    ]


def test_bpnet_outputs_alternate_profile_and_counts():
    model = bpnet_model(seqlen=60, num_dilated_convs=3, num_tasks=2)
    assert model.name == "bpnet_model"
    assert model.output_shape == [(None, 60), (None, 1), (None, 60), (None, 1)]
    dilations = [layer.dilation_rate for layer in model.layers if isinstance(layer, keras.layers.Conv1D)]
    assert dilations == [(1,), (1,), (2,), (4,)]


def test_bpnet_dense_layers():
    model = bpnet_dense_model()
    assert [tensor.name for tensor in model.inputs] == ["sequence", "control_profile", "control_logcount"]
    assert model.output_shape == [(None, 1000, 2), (None, 2)]
    combined = model.get_layer("combined_conv")
    assert combined.output.shape == (None, 1074, 32)
    assert len(combined.input) == 7
    assert model.get_layer("2_dilconv-crop_4th_dconv").cropping == (16, 16)
    assert model.get_layer("prof_out_crop2match_output").cropping == (0, 0)


def test_bpnet_dense_predicts_at_an_odd_surplus():
    model = bpnet_dense_model(inlen=205, outlen=50, filters=4, ndl=2)
    profile, counts = model.predict([np.ones((2, 205, 4)), np.ones((2, 50, 2)), np.ones((2, 2))], verbose=0)
    assert profile.shape == (2, 50, 2)
    assert counts.shape == (2, 2)


@pytest.mark.parametrize(("kwargs", "message"), [({"inlen": 155, "ndl": 2}, "at least 156"), ({"ndl": 0}, "ndl is 0")])
def test_bpnet_dense_names_what_does_not_fit(kwargs, message):
    with pytest.raises(ValueError, match=message):
        bpnet_dense_model(outlen=50, **kwargs)
