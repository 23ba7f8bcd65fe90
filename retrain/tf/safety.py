"""What a stranger's network may do: compute.  It is looked through before any of it is loaded."""

import json
import re
import zipfile
from graphlib import CycleError, TopologicalSorter

from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from retrain.errors import RetrainError

# Operations without a state compute, but for those that read files, run code, speak to debuggers or make data sets.
NOT_COMPUTING = re.compile(
    r"ReadFile|MatchingFiles|ImmutableConst|.*PyFunc.*|.*Dataset.*|.*TextFile.*|.*Reader.*|.*Vocab.*|.*Proto(V2)?"
    r"|.*Summary.*|Debug.*|Copy(Host)?|HostConst|.*Iterator.*|.*TPU.*|.*Send|.*Recv|FixedUnigramCandidateSampler"
)
# Those with a state that networks for pictures need.
STATEFUL = re.compile(
    r"VarHandleOp|Variable|VariableV2|VariableShape|VarIsInitializedOp|ReadVariableOp|Assign(Add|Sub)?VariableOp"
    r"|DisableCopyOnRead|StatefulPartitionedCall|If|While|Case|Assert|CheckNumerics(V2)?|GuaranteeConst|Empty"
    r"|Random.*|TruncatedNormal|Stateful(Uniform|StandardNormal|TruncatedNormal).*|Rng.*|ResourceGather(Nd)?"
    r"|TensorArray.*|StatelessRandomGetAlg|Multinomial|SampleDistortedBoundingBox(V2)?"
)
# All that classifiers of pictures are made of, in TensorFlow 1 and today: no files, no network, no code, no state,
# and no loops, for TensorFlow cannot be stopped in one that has no end.
LISTED = frozenset(
    """
    Const Placeholder PlaceholderV2 PlaceholderWithDefault Identity IdentityN NoOp StopGradient PreventGradient
    CheckNumerics Assert Switch Merge If StatelessIf PartitionedCall StatefulPartitionedCall
    DecodeJpeg DecodePng DecodeBmp DecodeImage DecodeAndCropJpeg
    Cast Shape ShapeN Size Rank Reshape Squeeze ExpandDims Transpose Pack Unpack Concat ConcatV2 Split SplitV Slice
    StridedSlice Gather GatherV2 GatherNd Tile Pad PadV2 MirrorPad Fill ZerosLike OnesLike Range OneHot Where Select
    SelectV2 BroadcastTo ReverseV2 SpaceToBatch SpaceToBatchND BatchToSpace BatchToSpaceND SpaceToDepth DepthToSpace
    Add AddV2 AddN Sub Mul MulNoNan Div DivNoNan RealDiv FloorDiv Mod FloorMod Neg Abs Sign Inv Reciprocal Square Sqrt
    Rsqrt Pow Exp Expm1 Log Log1p Maximum Minimum SquaredDifference Floor Ceil Round Rint Tanh Sigmoid Softplus Softsign
    Erf Erfc ClipByValue Less LessEqual Greater GreaterEqual Equal NotEqual LogicalAnd LogicalOr LogicalNot
    Mean Sum Prod Max Min All Any ArgMax ArgMin TopK TopKV2 L2Loss
    MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 Einsum BiasAdd BiasAddV1 Conv2D DepthwiseConv2dNative
    FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 BatchNormWithGlobalNormalization LRN MaxPool MaxPoolV2 AvgPool
    Relu Relu6 LeakyRelu Elu Selu Softmax LogSoftmax RandomUniform
    ResizeBilinear ResizeBicubic ResizeArea ResizeNearestNeighbor CropAndResize ScaleAndTranslate RGBToHSV HSVToRGB
    AdjustContrastv2
    Dequantize QuantizeV2 FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel
    """.split()  # noqa: SIM905
)
SAVER = {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "DistributedSave"}  # of the model's own variables
KERAS_MODULES = re.compile(
    r"keras|keras\.(src\.)?(models|layers|ops|activations|initializers|regularizers|constraints|dtype_policies|quantizers"
    r"|optimizers|losses|metrics)(\..*)?"
)
UNSAFE_LAYERS = {  # that run code, or read files when they are made
    "Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup", "IntegerLookup",
    "TextVectorization",
}  # fmt: skip
MAX_CONFIG_BYTES = 100_000_000  # 100 MB; the largest of keras.applications has 1 MB


def refuse_graph(name, graph):
    """Raise RetrainError where a GraphDef can do more than compute."""
    bodies = _bodies(graph)
    _refuse(name, [graph.node, *bodies.values()], bodies)


def refuse_unlisted(name, graph):
    """Raise RetrainError where a GraphDef holds operations that are neither listed nor functions of its own, or where
    these call themselves, which TensorFlow does not survive."""
    bodies = _bodies(graph)
    nodes = [*graph.node, *(node for body in bodies.values() for node in body)]
    unlisted = sorted({node.op for node in nodes if _is_unlisted(node.op, bodies)})
    if unlisted:
        raise RetrainError(
            f"{name} holds operations that are not on the list of those that only compute: {', '.join(unlisted)}.",
            "Such a graph could read and write files, run code here or never end. Use one without them.",
        )
    calls = {body: {called for node in nodes for called in _called(node)} for body, nodes in bodies.items()}
    try:
        TopologicalSorter(calls).prepare()
    except CycleError as error:
        raise RetrainError(f"{name} holds a function that calls itself.", "Use one that does not.") from error


def refuse_saved_model(path):
    """Raise RetrainError where a SavedModel can do more than compute, and load the variables that lie beside it."""
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((path / "saved_model.pb").read_bytes())
    except FileNotFoundError as error:
        raise RetrainError(
            f"{path} holds no saved_model.pb.", "Name the folder of a SavedModel or of an unpacked module."
        ) from error
    except Exception as error:
        raise RetrainError(f"{path / 'saved_model.pb'} is damaged: {error}.", "Fetch it again.") from error
    for meta in model.meta_graphs:
        bodies = _bodies(meta.graph_def)
        # The operations that save and restore the model are there in each; but what is called must not lead to them.
        _refuse(path, [meta.graph_def.node, *bodies.values()], bodies, SAVER)
        _refuse(path, [_reached(_entries(meta), meta, bodies)], bodies)
        if not meta.object_graph_def.nodes:
            _refuse_foreign_variables(path, meta, bodies)


def refuse_keras_file(path):
    """Raise RetrainError where a `.keras` file needs code of its own.  Keras' safe mode then looks again."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
            config = json.loads(file.read(MAX_CONFIG_BYTES))
        unsafe = sorted(set(_unsafe_objects(config)))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, RecursionError) as error:
        raise RetrainError(
            f"{path} is no .keras file: {error}.", "model.save('name.keras') of Keras 3 writes one."
        ) from error
    if unsafe:
        raise RetrainError(
            f"{path} needs code of its own: {', '.join(unsafe)}.",
            "Only Keras' own layers are loaded, and none that runs code. Save the part without them.",
        )


def _unsafe_objects(value):
    """Names of the classes in a config that are not Keras' own, or that can run code."""
    if isinstance(value, dict):
        name, module = value.get("class_name"), value.get("module")
        if isinstance(name, str) and "config" in value:
            if name in UNSAFE_LAYERS or not (module is None or _is_of_keras(module)):
                yield f"{module or 'keras'}.{name}"
            if value.get("registered_name") and module is None:
                yield str(value["registered_name"])
        value = value.values()
    elif not isinstance(value, list):
        return
    for each in value:
        yield from _unsafe_objects(each)


def _is_of_keras(module):
    return isinstance(module, str) and bool(KERAS_MODULES.fullmatch(module))


def _bodies(graph):
    """{name: nodes} of the functions of a GraphDef."""
    return {function.signature.name: function.node_def for function in graph.library.function}


def _refuse(name, graphs, functions, besides=frozenset()):
    unsafe = sorted({node.op for nodes in graphs for node in nodes if _is_unsafe(node.op, functions)} - besides)
    if unsafe:
        raise RetrainError(
            f"{name} holds operations that can do more than compute: {', '.join(unsafe)}.",
            "Such a network could read and write files or run code here. Use one that only computes.",
        )


def _is_unsafe(operation, functions):
    definition = op_def_registry.get(operation)
    if definition is None:
        return operation not in functions
    if definition.is_stateful:
        return not STATEFUL.fullmatch(operation)
    return bool(NOT_COMPUTING.fullmatch(operation))


def _is_unlisted(operation, functions):
    known = op_def_registry.get(operation) is not None  # and then runs, whatever a function of its name would do
    return operation not in LISTED if known else operation not in functions


def _entries(meta):
    """Names of the nodes and functions that may run, whatever is asked of a model; but for the restoring of TF1."""
    if meta.object_graph_def.nodes:  # TensorFlow 2 calls functions alone
        return list(meta.object_graph_def.concrete_functions)
    names = [info.name for signature in meta.signature_def.values() for info in signature.outputs.values()]
    for key in ("saved_model_main_op", "legacy_init_op"):
        names += meta.collection_def[key].node_list.value if key in meta.collection_def else []
    return [_node(name) for name in names]


def _refuse_foreign_variables(path, meta, bodies):
    """Variables may come out of the model's own folder alone, whose name TensorFlow puts where saver_def says."""
    own = meta.saver_def.filename_tensor_name
    restoring = _reached([_node(meta.saver_def.restore_op_name)], meta, bodies)
    _refuse(path, [restoring], bodies, {"RestoreV2"})
    by_name = {node.name: node for node in meta.graph_def.node}
    for node in restoring:
        origin = node.input[0] if node.op == "RestoreV2" else own
        while _node(origin) != _node(own) and by_name.get(_node(origin), node).op == "Identity":
            origin = by_name[_node(origin)].input[0]
        if _node(origin) != _node(own):
            raise RetrainError(f"{path} takes variables out of other files than its own.", "Use one that does not.")


def _reached(entries, meta, bodies):
    """The nodes that run where the entries, names of nodes and functions, are asked for."""
    by_name, left, seen, reached = {node.name: node for node in meta.graph_def.node}, list(entries), set(), []
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        found = [*bodies.get(name, ()), *([by_name[name]] if name in by_name else ())]
        reached += found
        left += [called for node in found for called in _called(node)]
        left += [_node(entry) for entry in by_name[name].input] if name in by_name else []
    return reached


def _called(node):
    """Names of the functions that a node calls."""
    values = [function for value in node.attr.values() for function in (value.func, *value.list.func)]
    return [node.op, *(function.name for function in values if function.name)]


def _node(name):
    """Name of the node of a tensor or of a control input."""
    return name.removeprefix("^").partition(":")[0]
