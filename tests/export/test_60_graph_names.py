"""Names of nodes come from the weights and stay apart."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from esccs_edge.export.graph_names import with_stable_names


def test_two_nodes_that_share_a_weight_get_names_of_their_own():
    weight = numpy_helper.from_array(np.zeros((2, 2, 1, 1), np.float32), "encoder.weight")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "encoder.weight"], ["first"]),
            helper.make_node("Conv", ["first", "encoder.weight"], ["second"]),
            helper.make_node("Relu", ["second"], ["y"]),
        ],
        "graph",
        [value("x", TensorProto.FLOAT, (1, 2, 4, 4))],
        [value("y", TensorProto.FLOAT, (1, 2, 4, 4))],
        [weight],
    )
    named = with_stable_names(helper.make_model(graph)).graph
    assert [node.name for node in named.node] == ["encoder", "encoder_1", "relu_0"]
    assert named.node[1].input[0] == named.node[0].output[0] == "encoder.out"
