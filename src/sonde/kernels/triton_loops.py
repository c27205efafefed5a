"""The loops of `gpu.py` in Triton. Importing this needs Triton.

A program holds a whole row in its registers: BLOCK is the width, rounded up to a power of two.
"""

import triton
import triton.language as tl


@triton.jit
def decode(y, base, stride, W_dec, starts, feature, value, error, squares, product, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < width
    left = tl.load(y + row * width + at, mask=inside, other=0.0)
    left -= tl.load(base + row * stride + at, mask=inside, other=0.0)
    first, last = tl.load(starts + row), tl.load(starts + row + 1)
    for pair in range(first, last):
        direction = W_dec + tl.load(feature + pair).to(tl.int64) * width
        left -= tl.load(value + pair) * tl.load(direction + at, mask=inside, other=0.0)
    tl.store(error + row * width + at, left, mask=inside)
    tl.store(squares + row, tl.sum(left * left))
    for pair in range(first, last):
        direction = W_dec + tl.load(feature + pair).to(tl.int64) * width
        tl.store(product + pair, tl.sum(left * tl.load(direction + at, mask=inside, other=0.0)))


@triton.jit
def products(x, W, bias, row, feature, product, width, BLOCK: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < width
    number = tl.load(feature + pair).to(tl.int64)
    own = tl.load(x + tl.load(row + pair).to(tl.int64) * width + at, mask=inside, other=0.0)
    weights = tl.load(W + number * width + at, mask=inside, other=0.0)
    tl.store(product + pair, tl.sum(own * weights) + tl.load(bias + number))


@triton.jit
def gathered(
    starts,
    order,
    row,
    weight,
    source,
    dense,
    dense_at,
    own,
    weights,
    number,
    at,
    inside,
    width,
    HAS_DENSE: tl.constexpr,
    HAS_OWN: tl.constexpr,
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    gradient = tl.zeros([BLOCK], tl.float32)
    for place in range(tl.load(starts + number), tl.load(starts + number + 1)):
        pair = tl.load(order + place)
        from_row = source + tl.load(row + pair).to(tl.int64) * width
        gradient += tl.load(weight + pair) * tl.load(from_row + at, mask=inside, other=0.0)
    if HAS_OWN:
        gradient += tl.load(own + number) * weights
    if HAS_DENSE:
        more = tl.load(dense_at + number).to(tl.int64)
        if more >= 0:
            gradient += tl.load(dense + more * width + at, mask=inside, other=0.0)
    if UNIT:  # rows keep their length, so what points along them would only mislead Adam
        gradient -= tl.sum(gradient * weights) * weights
    return gradient


@triton.jit
def gradient_square(
    starts,
    order,
    row,
    weight,
    source,
    dense,
    dense_at,
    own,
    HAS_DENSE: tl.constexpr,
    HAS_OWN: tl.constexpr,
    UNIT: tl.constexpr,
    W,
    squares,
    width,
    BLOCK: tl.constexpr,
):
    number = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < width
    weights = tl.load(W + number * width + at, mask=inside, other=0.0)
    gradient = gathered(
        starts,
        order,
        row,
        weight,
        source,
        dense,
        dense_at,
        own,
        weights,
        number,
        at,
        inside,
        width,
        HAS_DENSE,
        HAS_OWN,
        UNIT,
        BLOCK,
    )
    tl.store(squares + number, tl.sum(gradient * gradient))


@triton.jit
def update(
    starts,
    order,
    row,
    weight,
    source,
    dense,
    dense_at,
    own,
    HAS_DENSE: tl.constexpr,
    HAS_OWN: tl.constexpr,
    UNIT: tl.constexpr,
    W,
    m,
    v,
    scale,
    rate,
    beta1,
    beta2,
    epsilon,
    root,
    width,
    BLOCK: tl.constexpr,
):
    number = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < width
    here = number * width + at
    weights = tl.load(W + here, mask=inside, other=0.0)
    gradient = scale * gathered(
        starts,
        order,
        row,
        weight,
        source,
        dense,
        dense_at,
        own,
        weights,
        number,
        at,
        inside,
        width,
        HAS_DENSE,
        HAS_OWN,
        UNIT,
        BLOCK,
    )
    mean = tl.load(m + here, mask=inside, other=0.0)
    mean += (1 - beta1) * (gradient - mean)
    spread = beta2 * tl.load(v + here, mask=inside, other=0.0) + (1 - beta2) * gradient * gradient
    weights -= rate * mean / (tl.sqrt(spread) / root + epsilon)
    if UNIT:
        weights /= tl.maximum(tl.sqrt(tl.sum(weights * weights)), 1e-12)
    tl.store(m + here, mean, mask=inside)
    tl.store(v + here, spread, mask=inside)
    tl.store(W + here, weights, mask=inside)
