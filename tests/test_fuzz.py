"""A slice of the fuzzer's random models, and what it has found."""

from __future__ import annotations

import functools
import random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz import Edit, Recipe, Step, check, draw_recipe, shrink

pytestmark = pytest.mark.filterwarnings("ignore")  # as outside of tests, so that a seed draws the same model

PARTS, MODELS = 6, 10
#: Models that once failed, by what was wrong.
FAILED: dict[str, Recipe] = {
    # TensorFlow's tracing loses the shape that a median gives, so a function of the outputs did not know it.
    "reduced_median": Recipe(
        steps=(Step("reduce_channels", (0,), {"f": "median", "axis": 2, "keepdims": True}),),
        inputs=((55, 4),),
        mutated=0,
        outputs=(1,),
        packed="list",
        edit=Edit(n=1, ranges=((0, 7),), content="zeros", reduce="sum"),
        seed=915,
    ),
    # The same where what follows reads the shape as it prepares: on TensorFlow, compiled or not.
    "maximum_of_medians": Recipe(
        steps=(
            Step("reduce_channels", (0,), {"f": "median", "axis": -1, "keepdims": True}),
            Step("global_max", (1,), {}),
        ),
        inputs=((36, 20),),
        mutated=0,
        outputs=(2,),
        packed="list",
        edit=Edit(n=1, ranges=((9, 10),), content="letters"),
        seed=231,
    ),
    # A slice that leaves nothing was taken for a move of positions.
    "empty_slice": Recipe(
        steps=(
            Step("crop", (0,), {"cropping": (9, 11)}),
            Step("custom", (1,), {"kind": "shifted", "units": 1}),
        ),
        inputs=((22, 6),),
        mutated=0,
        outputs=(2,),
        packed="list",
        edit=Edit(n=1, ranges=((9, 10),), content="letters", explain=True),
        seed=634,
    ),
}


@functools.cache
def failure(seed: int) -> str:
    """What is wrong with a model, as Python; empty if nothing."""
    recipe = draw_recipe(random.Random(seed))
    try:
        check(recipe)
    except Exception as error:
        smaller, message = shrink(recipe, error, seconds=60)
        return f"seed {seed}: {message}\n{smaller}"
    return ""


@pytest.mark.parametrize("part", range(PARTS))
def test_random_models(part):
    @settings(derandomize=True, database=None, deadline=None, max_examples=MODELS, phases=[Phase.generate])
    @given(st.integers(1000 * part, 1000 * part + 999))
    def agrees(seed):
        found = failure(seed)
        assert not found, found

    agrees()


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("what", FAILED)
def test_what_failed_before(what, jit):
    assert check(FAILED[what], jit) == ""
