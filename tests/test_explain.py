"""What a plan says of itself: the published worked example, and brute force on small models."""

from __future__ import annotations

import functools
import math

import keras
import numpy as np
import pytest
from designs import DESIGNS
from keras import layers as L
from keras import ops

from fastism import FastISM
from fastism.explain import human
from fastism.models import basset_model, bpnet_model, factorized_basset_model
from fastism.testing import randomize


@functools.cache
def basset():
    return FastISM(basset_model(), test_correctness=False)


@functools.cache
def plan_of(build):
    return FastISM(build(), test_correctness=False)


def numbered(explanation, kind):
    return [r for r in explanation.rows if r.kind == kind]


# ------------------------------------------------------------------------------------------ the worked example


def test_basset_with_one_base_changed_at_position_500():
    """Conv1D 19 of 1000 from 37; MaxPool 7 of 333; Conv1D and MaxPool 5 of 83; from the Dense on everything."""
    why = basset().explain(500)
    conv = why.row("conv1")
    assert (conv.changed, conv.length, conv.inputs) == (19, 1000, 37)
    assert (conv.span, conv.source) == ((491, 510), (482, 519))
    first, second, third = numbered(why, "MaxPooling1D")
    assert (first.changed, first.length) == (7, 333)
    assert (second.changed, second.length) == (5, 83)
    assert (third.changed, third.length) == (3, 20)
    assert [r.state for r in why.rows].index("dense") == [r.call for r in why.rows].index("fc1")
    for row in why.rows[[r.call for r in why.rows].index("fc1") :]:
        assert row.state == "dense"
        assert row.changed == row.length
        assert row.reason


def test_multiply_accumulates_of_basset():
    why = basset().explain(500)
    by_hand = {
        "conv1": 1000 * 19 * 4 * 300,
        "conv2": 333 * 11 * 300 * 200,
        "conv3": 83 * 7 * 200 * 200,
        "fc1": 4000 * 1000,
        "fc2": 1000 * 1000,
        "fc3": 1000,
    }
    assert {r.call: r.naive for r in why.rows if r.naive} == by_hand
    assert 270.5e6 < why.naive < 271.5e6
    assert why.row("conv1").minimal == 19 * 19 * 4 * 300
    assert why.row("conv2").minimal == 17 * 11 * 300 * 200
    assert why.row("conv1").plan == 19 * 4 * 300, "one changed input position, sent to 19 outputs"
    assert why.row("fc2").minimal == why.row("fc2").naive


@pytest.mark.parametrize(
    ("build", "speedup"),
    [(basset_model, 0.95 * 36), (factorized_basset_model, 0.95 * 49), (bpnet_model, 0.9 * 8.5)],
)
def test_ideal_speedup(build, speedup):
    why = plan_of(build).explain()
    assert why.ideal_speedup >= speedup
    assert why.ideal_speedup == why.naive / why.ideal
    assert why.ideal <= why.plan <= why.naive


def test_sums():
    for position in (None, 0, 500):
        why = basset().explain(position)
        for name in ("naive", "minimal", "plan"):
            assert getattr(why, name) == math.fsum(getattr(r, name) for r in why.rows)
        assert why.minimal <= why.naive
        for row in why.rows:
            assert 0 <= row.minimal <= row.naive
            assert row.plan <= row.naive


def test_fewer_positions_change_at_the_edges():
    middle, left, right = (basset().explain(p) for p in (500, 0, 999))
    assert left.row("conv1").span == (0, 10)
    assert right.row("conv1").span == (990, 999), "position 999 is in no pool, so nothing reads it"
    for m, a, b in zip(middle.rows, left.rows, right.rows, strict=True):
        if m.state == "window":
            assert max(a.changed, b.changed) <= m.changed
    assert left.minimal < middle.minimal
    assert right.minimal < middle.minimal
    assert numbered(right, "MaxPooling1D")[0].changed == 3, "330 to 333 of 333"


def test_the_worst_case_is_the_largest_over_all_positions():
    ism = FastISM(DESIGNS["three_pools"].build(), test_correctness=False)
    worst, every = ism.explain(), [ism.explain(p) for p in range(101)]
    for i, row in enumerate(worst.rows):
        assert row.changed == max(e.rows[i].changed for e in every)
        assert row.minimal == max(e.rows[i].minimal for e in every)
        assert row.span is None
    assert worst.position is None
    assert [e.position for e in every] == list(range(101))


def test_ranges_are_explained_by_where_they_begin():
    ism = FastISM(DESIGNS["three_pools"].build(), change_ranges=[(0, 4)], test_correctness=False)
    row = ism.explain(50).rows[0]
    assert (row.span, row.source) == ((46, 58), (42, 62))
    assert ism.explain(-1).position == 97
    with pytest.raises(ValueError, match="0 to 97"):
        ism.explain(98)


# ------------------------------------------------------------------------------------------ the table


def test_it_prints_as_a_table():
    why = basset().explain(500)
    lines = str(why).splitlines()
    assert lines[0] == "One edit of 1 position at position 500."
    assert lines[1].split() == ["call", "layer", "state", "changed", "of", "from", "naive", "minimal", "plan"]
    body = [line.split() for line in lines[3 : 3 + len(why.rows)]]
    assert [line[0] for line in body] == [r.call for r in why.rows]
    assert body[0][:6] == ["conv1", "Conv1D", "window", "19", "1000", "37"]
    (total,) = [line for line in lines if line.startswith("total")]
    assert total.split() == ["total", "271", "M", *human(why.minimal).split(), *human(why.plan).split()]
    assert f"Ideal speed-up {why.ideal_speedup:.3g}x" in lines[-2]
    assert "mutants at once" in lines[-1]
    assert repr(why) == str(why)
    assert "any position (the worst case)" in str(basset().explain())


def test_rows_are_found_by_name():
    why = basset().explain()
    assert why.row("fc1").kind == "Dense"
    with pytest.raises(KeyError, match=r"no call 'fc9'; the calls are \['conv1'"):
        why.row("fc9")


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (999, "999"), (1000, "1 k"), (271e6, "271 M"), (1.5e9, "1.5 G"), (2e12, "2 T")]
)
def test_human(value, text):
    assert human(value) == text


def test_what_is_dense_says_why():
    why = FastISM(DESIGNS["recurrent_tail"].build(), test_correctness=False).explain()
    assert why.row("lstm").reason == "all of it changes; computed from the window alone"
    assert why.row("lstm").naive > 0
    assert why.row("dense").reason == "its input is computed whole (lstm)"
    why = FastISM(DESIGNS["softmax_over_positions"].build(), test_correctness=False).explain()
    assert why.row("softmax").reason == "its softmax runs over axis 1, the positions"
    grown = FastISM(DESIGNS["window_grows_over_everything"].build(), test_correctness=False).explain().rows[-1]
    assert (grown.state, grown.changed, grown.length) == ("window", 21, 21)


# ------------------------------------------------------------------------------------------ brute force


SEQUENCES = 24


def really_changed(model, index):
    """For each call, (L, T): whether any of many random edits at each position changes each output position."""
    ism = FastISM(model, index, test_correctness=False)
    graph = ism._graph
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(SEQUENCES, *graph.shape(t))).astype("float32") for t in graph.inputs]
    at = graph.inputs[index]
    length, alphabet = graph.shape(at)
    letters = rng.integers(0, alphabet, (SEQUENCES, length))
    inputs[index] = np.eye(alphabet, dtype="float32")[letters]
    mutants = np.repeat(inputs[index][None], length, axis=0)  # (L, B, L, A)
    other = np.eye(alphabet, dtype="float32")[(letters + rng.integers(1, alphabet, letters.shape)) % alphabet]
    for p in range(length):
        mutants[p, :, p] = other[:, p]

    def tensors(arrays):
        values = dict(zip(graph.inputs, map(ops.convert_to_tensor, arrays), strict=True))
        for call in graph.calls:
            values.update(zip(call.outputs, call.evaluate([values[t] for t in call.inputs]), strict=True))
        return {call.name: ops.convert_to_numpy(values[call.outputs[0]]) for call in graph.calls}

    reference = tensors(inputs)
    many = [np.tile(a, (length, *[1] * (a.ndim - 1))) for a in inputs]
    many[index] = mutants.reshape(length * SEQUENCES, length, alphabet)
    changed = {}
    for name, values in tensors(many).items():
        values = values.reshape(length, *reference[name].shape)
        differ = np.abs(values - reference[name]) > 1e-5 * np.abs(reference[name]).max()
        changed[name] = differ.any(axis=(1, *range(3, differ.ndim)))
    return ism, changed


@pytest.mark.parametrize(
    "name",
    [
        "three_pools",
        "conv_even_dilated",
        "conv_stride3_same_even",
        "conv_causal_dilated",
        "conv_transpose_head",
        "conv_transpose_stride",
        "max_pool_overlap_same",
        "average_pool_gaps",
        "crops_pads_upsampling",
        "residual_valid_cropped",
        "branches_of_different_speed",
        "merges_of_different_windows",
        "second_input_mutated",
        "one_branch_cropped_away",
        "recurrent_tail",
        "attention_and_local_output",
        "flatten_dense",
        "reshapes",
    ],
)
def test_changed_positions_are_those_that_change(name):
    index = DESIGNS[name].index
    ism, changed = really_changed(randomize(DESIGNS[name].build()), index)
    program = ism._engine.program
    read = {c.name: program.needed[program.find(c.outputs[0])] for c in program.graph.calls}
    length = next(iter(changed.values())).shape[0]
    holes = "dilated" in name  # which a window spans, and at the ends may begin or end in
    for position in {0, 1, length // 2, length // 2 + 1, length - 2, length - 1}:
        for row in ism.explain(position).rows:
            where = np.flatnonzero(changed[row.call][position])
            where = where[(where >= read[row.call][0]) & (where < read[row.call][1])]
            if row.state == "reference":
                assert not len(where)
                assert row.changed == row.minimal == 0
            elif not len(where):
                assert row.changed == 0, f"{row.call} does not change at {position}"
            else:
                assert row.span[0] <= where[0]
                assert where[-1] < row.span[1]
                if row.state == "window" and not (holes and abs(position - length // 2) > 1):
                    assert row.span == (where[0], where[-1] + 1), f"{row.call} at {position}"
            assert row.changed == row.span[1] - row.span[0]
            assert row.length == changed[row.call].shape[1]


# ------------------------------------------------------------------------------------------ pictures


def test_plot_writes_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    basset().plot(tmp_path / "plan.png", 500)
    data = (tmp_path / "plan.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 10_000
    basset().plot(tmp_path / "middle.svg")
    drawn = (tmp_path / "middle.svg").read_text()
    assert "<svg" in drawn
    with pytest.raises(ValueError, match="position is 1000"):
        basset().plot(tmp_path / "none.png", 1000)
    assert not (tmp_path / "none.png").exists()


@pytest.fixture
def axes_of(monkeypatch):
    """What is drawn instead of written."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: drawn.append(self))

    def draw(ism, position):
        ism.plot("plan.png", position)
        return drawn.pop().axes[0]

    return draw


def test_the_title_stands_over_the_left_end_of_the_bars(axes_of):
    axes = axes_of(basset(), 500)
    axes.figure.draw_without_rendering()
    (title,) = [text for text in axes.get_children() if getattr(text, "get_text", str)().endswith("at position 500")]
    left = title.get_window_extent().x0
    assert left == pytest.approx(axes.transData.transform((0, 0))[0], abs=3)


def test_plot_draws_changed_positions_red_on_each_bar(axes_of):
    from matplotlib.colors import to_hex

    axes = axes_of(basset(), 500)
    rows = basset().explain(500).rows
    texts = [t.get_text() for t in axes.texts]
    for row in rows:
        assert f"{row.call}  ({row.kind})" in texts
        assert f"{row.changed:,} / {row.length:,}" in texts
    bars = [(to_hex(c.get_facecolor()[0]), c.get_paths()[0].get_extents()) for c in axes.collections]
    red = [box for colour, box in bars if colour == "#d62728"]
    assert len(red) == 1 + len(rows), "the input and every call"
    np.testing.assert_allclose([red[1].x0, red[1].x1], [0.491, 0.510], atol=1e-9)
    yellow = [box for colour, box in bars if colour == "#f2c230"]
    np.testing.assert_allclose([yellow[0].x0, yellow[0].x1], [0.482, 0.519], atol=1e-9)


@pytest.mark.parametrize("position", [0, 500])
@pytest.mark.parametrize("build", [basset_model, bpnet_model])
def test_plot_writes_the_three_counts_of_each_layer_and_in_all(axes_of, build, position):
    lines = {}
    for text in axes_of(plan_of(build), position).texts:
        x, y = text.get_position()
        lines.setdefault(y, {})[x] = text.get_text()
    _, head, top, *body, total = ([text for _, text in sorted(lines[y].items())] for y in sorted(lines))
    assert head == ["layer", "output positions", "changed / of", "naive", "minimal", "this plan"]
    assert top == ["input", "1 / 1,000"]
    why = plan_of(build).explain(position)
    for row, line in zip(why.rows, body, strict=True):
        counts = [human(row.naive), human(row.minimal), human(row.plan)] if row.naive else []
        assert line == [f"{row.call}  ({row.kind})", f"{row.changed:,} / {row.length:,}", *counts]
    assert total == ["total", human(why.naive), human(why.minimal), human(why.plan)]
    assert human(why.plan) != human(why.minimal)


def test_the_title_of_a_plot_counts_from_the_start(axes_of):
    assert axes_of(basset(), -1).get_title("left") == "basset_model: one edit at position 999"


@pytest.mark.parametrize("path", [5, None, ["plan.png"]])
def test_what_is_no_file_to_write(path):
    with pytest.raises(TypeError, match=r"path is .*; a file to write, such as 'plan\.png', is accepted\.") as caught:
        basset().plot(path)
    assert ("plot('plan.png', position)" in str(caught.value)) == (path == 5)
    with pytest.raises(TypeError, match=r"path is .*; the name of a file to write, such as 'graph\.dot', is accepted"):
        basset().plot_graph(path)


def test_plot_writes_into_open_files(tmp_path):
    pytest.importorskip("matplotlib")
    with (tmp_path / "plan").open("wb") as file:
        basset().plot(file)
    assert (tmp_path / "plan").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("graphviz", [None, "/usr/bin/dot"])
def test_endings_that_a_graph_cannot_have(tmp_path, monkeypatch, graphviz):
    monkeypatch.setattr("shutil.which", lambda name: graphviz)
    with pytest.raises(ValueError, match=r"path is .*g\.xyz'; the endings \.dot, \.png, \.svg, \.pdf are accepted"):
        basset().plot_graph(tmp_path / "g.xyz")
    assert not list(tmp_path.iterdir())
    basset().plot_graph(tmp_path / "graph")
    assert (tmp_path / "graph").read_text().startswith("digraph")


def nested():
    inside = L.Input((20, 4))
    inner = keras.Model(inside, L.Conv1D(4, 3, padding="same", name="conv")(inside), name='in"ner')
    x = L.Input((20, 4), name="dna")
    return keras.Model(x, L.GroupNormalization(2, name="norm")(inner(inner(x))))


def test_plot_graph_names_every_call(tmp_path):
    ism = FastISM(nested(), test_correctness=False)
    ism.plot_graph(tmp_path / "graph.dot")
    text = (tmp_path / "graph.dot").read_text()
    for row in ism.explain().rows:
        assert row.call.replace('"', "'") in text
        assert f"{row.state}: {row.changed} of {row.length}" in text
    assert text.count("->") == 3
    assert "mutated" in text
    assert "GroupNormalization has no rule" in text


def test_plot_graph_of_basset(tmp_path):
    basset().plot_graph(str(tmp_path / "graph.dot"))
    text = (tmp_path / "graph.dot").read_text()
    for row in basset().explain().rows:
        assert f"{row.call} ({row.kind})" in text


def test_other_formats_need_graphviz(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"graph\.png needs Graphviz, whose program 'dot' was not found.*graph\.dot"):
        basset().plot_graph(tmp_path / "graph.png")
    assert not (tmp_path / "graph.png").exists()
    basset().plot_graph(tmp_path / "graph.dot")
    assert (tmp_path / "graph.dot").exists()
