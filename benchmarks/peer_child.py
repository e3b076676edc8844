"""Times the published fastISM, in an environment of its own where that package is installed; imports nothing of ours.

Reads a request as JSON from standard input and writes the answer where it says.
"""

import json
import os
import sys
import time

os.environ["TF_USE_LEGACY_KERAS"] = "1"
#: Seconds of a first call from which on it is not repeated.
LONG = 100
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main():
    """Answer one request."""
    request = json.load(sys.stdin)
    import numpy as np
    import tensorflow as tf

    import fastism
    from fastism.models import basset, bpnet, factorized_basset

    makers = {
        "basset": basset.basset_model,
        "factorized_basset": factorized_basset.factorized_basset_model,
        "bpnet": bpnet.bpnet_model,
    }
    given = np.load(request["given"])
    x = given["x"]
    model = makers[request["model"]](seqlen=x.shape[1])
    weights = [given[f"w{i}"] for i in range(len(model.get_weights()))]
    model.set_weights(weights)
    ism = fastism.FastISM(model, test_correctness=False)
    letter = [float(i == request["letter"]) for i in range(4)]  # a list: it cannot tell an array from 0

    def run():
        begun = time.perf_counter()
        outputs = ism(tf.constant(x), replace_with=letter)
        outputs = [np.asarray(y) for y in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]
        return time.perf_counter() - begun, outputs

    first, outputs = run()
    # what the first call does once takes seconds: where it took minutes, it is time enough itself
    times = [first] if first > LONG else [run()[0] for _ in range(request["repeats"])]
    np.savez(request["outputs"], *outputs)
    answer = {"first_s": first, "times_s": times, "tensorflow": tf.__version__, "outputs": len(outputs)}
    with open(request["answer"], "w") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main()
