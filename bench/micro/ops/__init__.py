"""The ops that the microbenchmarks time, one module each; a new one is added to the list here."""

from bench.micro.op import Op
from bench.micro.ops import bn_act, bn_act_backward, bn_stats, conv, conv_dgrad, conv_inference, stem

# By name, in the order of tables and rows.
OPS: dict[str, Op] = {
    op.name: op
    for op in (
        bn_stats.OP,
        bn_act.OP,
        bn_act_backward.OP,
        stem.OP,
        conv.CONV1X1,
        conv.CONV3X3,
        conv_dgrad.OP,
        conv_inference.OP,
    )
}
