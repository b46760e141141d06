"""The CIN layer against a plain implementation and the machine's matmul peak, all in one process.

    python -m benchmarks.training.cin_kernel

One table: forward + backward of 26 fields, dimension 16, CIN 128-128 (no split half) at batch
4,096, then the forward pass alone at serving sizes. What is measured takes turns, round by round,
so that a busy moment of the machine meets all alike; the best and the median round are shown.

Two counts of floating-point operations, each times three for forward + backward:
plain     2 * m * n * k of the formula as written, whatever was computed: a speed in examples/s,
          scaled. Above 100% of the peak means fewer operations, not a faster machine.
executed  the multiplications that our layer really makes: pairs i <= j once in the first layer,
          and under the linear activation the last layer after the sum over the dimension. What is
          made again in the backward pass (outer products) is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import dualdnn  # noqa: F401  (first: it selects the Keras API)

# isort: split
import tensorflow as tf
import tf_keras as keras

from dualdnn.layers.cin import CompressedInteractionNetwork

FIELDS, DIM, SIZES, BATCH = 26, 16, (128, 128), 4096
SERVING_BATCHES = (1, 100, 500)
PEAK = (8192, 2048, 2048)


def plain_cin(layer: CompressedInteractionNetwork, inputs: tf.Tensor) -> tf.Tensor:
    """The same network with the outer product written out, left to automatic differentiation."""
    activate = keras.activations.get(layer.activation)
    fields = tf.transpose(inputs, (0, 2, 1))
    maps, pooled = fields, []
    for kernel in layer.kernels:
        products = fields[:, :, :, None] * maps[:, :, None, :]
        products = tf.reshape(products, (-1, kernel.shape[0]))
        maps = tf.reshape(tf.matmul(products, kernel), (-1, DIM, kernel.shape[1]))
        maps = activate(maps)
        pooled.append(tf.reduce_sum(maps, axis=1))
    return tf.concat(pooled, axis=1)


def multiplications(activation: str, *, executed: bool) -> int:
    """Multiply-adds of the forward pass per example."""
    columns, total = FIELDS, 0
    for k, size in enumerate(SIZES):
        products = FIELDS * columns
        if executed and activation == "linear" and k == len(SIZES) - 1:
            total += products * DIM + products * size
        elif executed and k == 0:
            total += FIELDS * (FIELDS + 1) // 2 * size * DIM
        else:
            total += products * size * DIM
        columns = size
    return total


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def training_step(
    function: Callable[[tf.Tensor], tf.Tensor], layer: CompressedInteractionNetwork, x: tf.Tensor
) -> Callable[[], object]:
    @tf.function
    def step(x: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(function(x)))
        return tape.gradient(loss, [x, *layer.kernels])

    return lambda: step(x)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the CIN layer against the matmul peak.")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each measurement")
    rounds = parser.parse_args().rounds

    m, n, k = PEAK
    a, b = tf.random.normal((m, k)), tf.random.normal((k, n))
    x = tf.random.normal((BATCH, FIELDS, DIM))
    calls: dict[tuple[str, str, int], Callable[[], object]] = {}
    for activation in ("linear", "relu"):
        layer = CompressedInteractionNetwork(
            layer_sizes=SIZES, activation=activation, seed=1, name=f"cin_{activation}"
        )
        layer(x[:1])
        for kind, function in (
            ("tiled", layer),
            ("plain", lambda x, layer=layer: plain_cin(layer, x)),
        ):
            calls[activation, kind, 0] = training_step(function, layer, x)
            forward = tf.function(function, input_signature=[tf.TensorSpec((None, FIELDS, DIM))])
            for batch in SERVING_BATCHES:
                calls[activation, kind, batch] = lambda f=forward, x=x[:batch]: f(x)

    times: dict[object, list[float]] = {key: [] for key in calls}
    peaks: list[float] = []
    for call in calls.values():
        call()  # traces
        call()
    for _ in range(rounds):
        peaks.append(seconds(lambda: tf.matmul(a, b)))
        for key, call in calls.items():
            repeats = 20 if key[2] > 0 else 1
            times[key] += [seconds(call) for _ in range(repeats)]

    peak = 2 * m * n * k / min(peaks) / 1e9
    threads = tf.config.threading.get_intra_op_parallelism_threads() or "all"
    print(
        f"matmul {m}x{k} by {k}x{n}, float32: {peak:.0f} GFLOP/s at best, "
        f"{2 * m * n * k / statistics.median(peaks) / 1e9:.0f} in the median; threads: {threads}"
    )
    print(f"\nforward + backward, batch {BATCH:,}")
    print(
        f"{'activation':<11}{'code':<7}{'best ms':>8}{'median':>8}{'examples/s':>12}"
        f"{'plain count':>13}{'of peak':>9}{'executed':>10}{'of peak':>9}{'vs plain':>10}"
    )
    for (activation, kind, batch), spent in times.items():
        if batch:
            continue
        best, median = min(spent), statistics.median(spent)
        counts = [
            3 * 2 * BATCH * multiplications(activation, executed=executed) / best / 1e9
            for executed in (False, kind == "tiled")
        ]
        reference = statistics.median(times[activation, "plain", 0])
        print(
            f"{activation:<11}{kind:<7}{best * 1e3:>8.0f}{median * 1e3:>8.0f}"
            f"{BATCH / best:>12,.0f}"
            + "".join(
                f"{count:>{width}.0f}{count / peak:>9.0%}"
                for count, width in zip(counts, (13, 10), strict=True)
            )
            + f"{reference / median:>9.1f}x"
        )
    print("\nforward alone, median ms at batch " + " / ".join(map(str, SERVING_BATCHES)))
    for activation in ("linear", "relu"):
        for kind in ("tiled", "plain"):
            medians = [
                f"{statistics.median(times[activation, kind, batch]) * 1e3:.2f}"
                for batch in SERVING_BATCHES
            ]
            print(f"{activation:<11}{kind:<7}" + " / ".join(medians))


if __name__ == "__main__":
    main()
