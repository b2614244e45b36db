"""The roofline model's table: which tensors each pass of a training step reads and writes, at each level of fusion.

What the rows take for granted:
- a 1x1 convolution of stride 2 reads a quarter of its input's pixels; its dgrad writes all of them, zeros included;
- eager PyTorch keeps the pool's indices as int64, torch.compile and the kernels as one byte;
- torch.compile fuses what is pointwise, keeps z = relu(...) for wgrad and takes ReLU's mask from it; no wgrad reads the
  stem's activation, whose sign is computed again from y;
- own kernels compute the sign again from y, and at a join from one bit an element that the forward pass kept;
- from level c on dgrad has its epilogue at any stride, and from d on the 3x3 convolution has statistics in its epilogue
  as the 1x1 has: the ladder says what a fusion could win at most, not for which shapes a kernel exists;
- the first convolution (three channels in) is never fused with anything.
"""

from typing import NamedTuple

# Each adds to the one before; a to d are this project's kernels, e and f would need a wgrad of its own.
LEVELS: dict[str, str] = {
    "eager": "unfused",
    "compile": "pointwise operations fused",
    "a": "own pointwise kernels, the library's convs",
    "b": "+ statistics in the 1x1 conv's epilogue",
    "c": "+ ReLU's mask and BN's reduce in dgrad's epilogue",
    "d": "+ normalize and ReLU in the next conv's prologue",
    "e": "+ the same prologue in wgrad",
    "f": "+ BN's apply in dgrad's and wgrad's prologues",
}


class Row(NamedTuple):
    """One pass of the table.

    Attributes:
        op: what it is; rows of one op at one layer are one kernel, and add up.
        levels: first and last level that has it.
        where: traits that the layer or place must have, or with "!" must not have.
        reads, writes: tensors, by the names that `_conv_sizes` and `_place_sizes` give them; one that is not there
            (the second y of a place without a projection, say) counts nothing.
    """

    op: str
    levels: str
    where: str
    reads: str
    writes: str


# Of every convolution with its BN. Traits: 1x1, first.
CONV_ROWS = (
    Row("conv",                  "eager-f",         "",                "x w",         "y"),
    Row("bn_stats",              "eager-a",         "",                "y",           ""),
    Row("bn_stats",              "b-c",             "!1x1",            "y",           ""),
    Row("bn_stats",              "d-f",             "first",           "y",           ""),
    Row("normalize",             "eager-eager",     "",                "y",           "n"),
    Row("bn_backward_reduce",    "eager-eager",     "",                "g y",         ""),
    Row("bn_backward_apply",     "eager-eager",     "",                "g y",         "dy"),
    Row("dgrad",                 "eager-e",         "!first",          "dy w",        "dx"),
    Row("dgrad",                 "f-f",             "!first",          "g y w",       "dx"),
    Row("wgrad",                 "eager-e",         "",                "x dy",        "dw"),
    Row("wgrad",                 "f-f",             "first",           "x dy",        "dw"),
    Row("wgrad",                 "f-f",             "!first",          "x g y",       "dw"),
)  # fmt: skip

# Of every place between convolutions. Traits: pool; chain (one way in, one way out) or junction (ways meet or part);
# projection, identity, padded (what is added); skip, skip_padded (what comes back); first (after the first
# convolution), last (before the global average). "dgrad" is the consumer's: the row is what its epilogue adds.
PLACE_ROWS = (
    Row("pad",                   "eager-eager",     "padded",          "i",           "e i"),
    Row("add",                   "eager-eager",     "identity",        "n e",         "n"),
    Row("add",                   "eager-eager",     "projection",      "n n2",        "n"),
    Row("relu",                  "eager-eager",     "",                "n",           "u"),
    Row("max_pool",              "eager-eager",     "pool",            "u",           "z k8"),
    Row("pad_backward",          "eager-eager",     "skip_padded",     "s",           "sd s"),
    Row("accumulate",            "eager-eager",     "skip",            "dz sd",       "dz"),
    Row("max_pool_backward",     "eager-eager",     "pool",            "dz k8",       "du"),
    Row("relu_backward",         "eager-eager",     "pool",            "du u",        "g"),
    Row("relu_backward",         "eager-eager",     "!pool",           "dz z",        "g"),

    Row("bn_act",                "compile-compile", "",                "y y2 i",      "u"),
    Row("max_pool",              "compile-compile", "pool",            "u",           "z k"),
    Row("max_pool_backward",     "compile-compile", "pool",            "dz s k",      "du"),
    Row("bn_backward_reduce",    "compile-compile", "pool",            "du y",        ""),
    Row("bn_backward_apply",     "compile-compile", "pool",            "du y",        "dy"),
    Row("bn_backward_reduce",    "compile-compile", "chain",           "dz z y",      ""),
    Row("bn_backward_apply",     "compile-compile", "chain",           "dz z y",      "dy"),
    Row("bn_backward_reduce",    "compile-compile", "junction",        "dz s z y y2", "g"),
    Row("bn_backward_apply",     "compile-compile", "junction",        "g y y2",      "dy dy2"),

    Row("stem",                  "a-f",             "pool",            "y",           "z k"),
    Row("bn_act",                "a-c",             "!pool",           "y y2 i",      "z m"),
    Row("bn_act",                "d-f",             "junction",        "y y2 i",      "z m"),
    Row("bn_act",                "d-f",             "chain last",      "y",           "z"),
    Row("join_gradient",         "a-b",             "pool skip",       "dz s",        "dz"),
    Row("stem_backward_reduce",  "a-f",             "pool",            "dz k y",      ""),
    Row("stem_backward_apply",   "a-f",             "pool",            "dz k y",      "dy"),
    Row("bn_act_backward_reduce", "a-b",            "chain",           "dz y",        ""),
    Row("bn_act_backward_reduce", "a-b",            "junction",        "dz s y y2 m", "g"),
    Row("bn_act_backward_reduce", "c-e",            "chain last",      "dz y",        ""),
    Row("bn_act_backward_reduce", "f-f",            "chain last",      "dz y",        "g"),
    Row("bn_act_backward_reduce", "c-f",            "junction last",   "dz y y2 m",   "g"),
    Row("bn_act_backward_apply", "a-b",             "chain",           "dz y",        "dy"),
    Row("bn_act_backward_apply", "a-b",             "junction",        "g y y2",      "dy dy2"),
    Row("bn_act_backward_apply", "c-e",             "chain last",      "dz y",        "dy"),
    Row("bn_act_backward_apply", "c-e",             "chain !last",     "g y",         "dy"),
    Row("bn_act_backward_apply", "c-e",             "junction",        "g y y2",      "dy dy2"),
    Row("bn_act_backward_apply", "f-f",             "first !pool",     "g y",         "dy"),
    Row("dgrad",                 "c-f",             "pool",            "s",           ""),
    Row("dgrad",                 "c-f",             "!pool !last",     "s y y2 m",    ""),
    Row("dgrad",                 "d-d",             "chain !last",     "",            "z"),
)  # fmt: skip
