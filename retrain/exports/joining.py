"""Join the LiteRT files of a model's networks with its head to one file: pixels in, probabilities out."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from retrain.backbones.runner import POOLED, LiteRTNetwork
from retrain.errors import RetrainError
from retrain.images import resizing_kernel

PIXELS, PROBABILITIES = "pixels", "probabilities"  # the input and the output, which the signature names so
METADATA = "TFLITE_METADATA"
TYPES = {
    schema.TensorType.FLOAT32: np.float32, schema.TensorType.UINT8: np.uint8, schema.TensorType.INT8: np.int8,
    schema.TensorType.INT32: np.int32,
}  # fmt: skip
CODES = {dtype: code for code, dtype in TYPES.items()}


def join(model, side, dtype, metadata=b""):
    """Bytes of a LiteRT file of a Model: pixels `dtype` (1, side, side, 3) of 0-255 → probabilities float32 (1, C).

    Each network computes as its own file does.  dtype: float32 or uint8.  metadata: see `retrain.exports.metadata`.
    Raises RetrainError where a network has no LiteRT file.
    """
    networks = [_Network(backbone) for backbone in model.backbones]
    graph = _Graph()
    # Where a network takes these very bytes, nothing stands before it.
    direct = next((each.quantization for each in networks if each.takes(side, np.uint8)), (1.0, 0))
    graph.entry = graph.tensor((1, side, side, 3), dtype, PIXELS, direct if dtype == np.uint8 else None)
    pixels = graph.as_pixels(graph.entry, direct) if dtype == np.uint8 else graph.entry
    embeddings = []
    for network in networks:
        if dtype == np.uint8 and network.takes(side, dtype) and network.quantization == direct:
            entry = graph.entry
        else:
            entry = _entering(graph, graph.resized(pixels, side, network.side), network)
        embeddings.append(graph.normalized(graph.insert(network.content, entry, network.name)))
    return graph.content(_head(graph, embeddings, model), metadata)


class _Network:
    """What must be known of a network's file to feed it."""

    def __init__(self, backbone):
        spec = self.spec = backbone.spec
        if spec.runtime != "litert":
            raise RetrainError(f"{spec.name} cannot be converted to LiteRT.", "Export saved_model, onnx, pb or zip.")
        self.name, self.content, self.side = spec.name, backbone.content, spec.image_size
        self.dtype = LiteRTNetwork(backbone.content).dtype
        packed = schema.Model.GetRootAs(backbone.content, 0).Subgraphs(0)
        quantization = packed.Tensors(packed.Inputs(0)).Quantization()
        self.quantization = (1.0, 0)
        if quantization is not None and quantization.ScaleLength():
            self.quantization = float(quantization.Scale(0)), int(quantization.ZeroPoint(0))

    def takes(self, side, dtype):
        return self.side == side and self.dtype == dtype


def _entering(graph, pixels, network):
    """What a network takes, of pixels float32 of 0-255; see `retrain.backbones.runner`."""
    if network.dtype == np.float32:
        return graph.affine(pixels, network.spec.mean, 1 / network.spec.scale)
    scale, zero = network.quantization
    # It takes the pixel itself, or less 128 where it has a sign; what that stands for its quantization says.
    real = graph.affine(pixels, zero + (128 if network.dtype == np.int8 else 0), scale)
    return graph.quantized(real, network.dtype, network.quantization)


def _head(graph, embeddings, model):
    count, temperature = len(embeddings), np.float32(model.temperature)
    if count > 1:
        width = sum(graph.shape(each)[-1] for each in embeddings)
        options = schema.ConcatenationOptionsT(axis=1)
        embeddings = [graph.apply("CONCATENATION", embeddings, (1, width), options)]
    # Each network's embedding has its part of a vector of length 1.
    weights = graph.constant(model.head.weights / (np.float32(count**0.5) * temperature))
    intercept = graph.constant(model.head.intercept / temperature)
    shape = (1, len(model.classes))
    logits = graph.apply("FULLY_CONNECTED", [*embeddings, weights, intercept], shape, schema.FullyConnectedOptionsT())
    if model.head.kind == "softmax":
        return graph.apply("SOFTMAX", [logits], shape, schema.SoftmaxOptionsT(beta=1.0), name=PROBABILITIES)
    return graph.apply("LOGISTIC", [logits], shape, name=PROBABILITIES)


class _Buffer(schema.BufferT):
    """Its bytes begin where 16 divides, as the format asks and its Python code forgets."""

    def Pack(self, builder):
        data = b"" if self.data is None else bytes(self.data)
        builder.StartVector(1, len(data), 16)
        builder.head = builder.Head() - len(data)
        builder.Bytes[builder.Head() : builder.Head() + len(data)] = data
        vector = builder.EndVector()
        schema.BufferStart(builder)
        if data:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


class _Graph:
    """A LiteRT graph in the making: tensors, known by their numbers, and what makes one of others."""

    def __init__(self):
        self.subgraph = schema.SubGraphT(tensors=[], operators=[], name="main")
        # The first buffer is empty by convention: that of all tensors that are computed.
        self.model = schema.ModelT(
            version=3, subgraphs=[self.subgraph], buffers=[_Buffer()], operatorCodes=[], description="retrain",
        )  # fmt: skip
        self.entry = 0

    def tensor(self, shape, dtype=np.float32, name="", quantization=None, buffer=0):
        made = schema.TensorT(shape=_ints(shape), type=CODES[dtype], buffer=buffer)
        made.name = name or f"tensor{len(self.subgraph.tensors)}"
        if quantization:
            scale, zero = quantization
            made.quantization = schema.QuantizationParametersT(
                scale=_floats([scale]), zeroPoint=np.array([zero], np.int64)
            )
        self.subgraph.tensors.append(made)
        return len(self.subgraph.tensors) - 1

    def constant(self, values):
        values = np.ascontiguousarray(values)
        self.model.buffers.append(_Buffer(values.tobytes()))
        return self.tensor(values.shape, values.dtype.type, buffer=len(self.model.buffers) - 1)

    def shape(self, tensor):
        return tuple(int(length) for length in self.subgraph.tensors[tensor].shape)

    def apply(self, operation, inputs, shape, options=None, **tensor):
        """Number of the tensor that a builtin operation makes of others."""
        output = self.tensor(shape, **tensor)
        code, old = getattr(schema.BuiltinOperator, operation), schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES
        known = schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, old), version=1)
        made = schema.OperatorT(opcodeIndex=self._code(known), inputs=_ints(inputs), outputs=_ints([output]))
        if options is not None:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            made.builtinOptions = options
        self.subgraph.operators.append(made)
        return output

    def affine(self, tensor, less, times):
        """(tensor - less) * times."""
        if less:
            options = schema.SubOptionsT()
            tensor = self.apply("SUB", [tensor, self.constant(_floats([less]))], self.shape(tensor), options)
        if times != 1:
            options = schema.MulOptionsT()
            tensor = self.apply("MUL", [tensor, self.constant(_floats([times]))], self.shape(tensor), options)
        return tensor

    def as_pixels(self, tensor, quantization):
        """0-255 as float32, of bytes that are quantized so."""
        scale, zero = quantization
        real = self.apply("DEQUANTIZE", [tensor], self.shape(tensor), schema.DequantizeOptionsT())
        return self.affine(real, -zero * scale, 1 / scale)

    def quantized(self, tensor, dtype, quantization):
        options = schema.QuantizeOptionsT()
        return self.apply("QUANTIZE", [tensor], self.shape(tensor), options, dtype=dtype, quantization=quantization)

    def resized(self, pixels, before, after):
        """Pixels (1, before, before, 3) as (1, after, after, 3), as Pillow resizes them."""
        if before == after:
            return pixels
        kernel = self.constant(resizing_kernel(before, after).T)  # (after, before)
        # The last axis is the width, then the height.
        turned = self._turned(pixels, (0, 1, 3, 2), (1, before, 3, before))
        turned = self._turned(self._dense(turned, kernel, after), (0, 3, 2, 1), (1, after, 3, before))
        return self._turned(self._dense(turned, kernel, after), (0, 3, 1, 2), (1, after, after, 3))

    def _dense(self, tensor, kernel, width):
        options = schema.FullyConnectedOptionsT(keepNumDims=True)
        return self.apply("FULLY_CONNECTED", [tensor, kernel, -1], (*self.shape(tensor)[:-1], width), options)

    def _turned(self, tensor, axes, shape):
        return self.apply("TRANSPOSE", [tensor, self.constant(_ints(axes))], shape, schema.TransposeOptionsT())

    def normalized(self, embedding):
        """Of length 1."""
        long = self.affine(embedding, 0, 1e6)  # LiteRT takes what is shorter than 1e-6 for longer than it is
        return self.apply("L2_NORMALIZATION", [long], self.shape(embedding), schema.L2NormOptionsT())

    def insert(self, content, entry, name):
        """Number of the tensor float32 (1, D) that the network of a file makes of `entry`."""
        other = schema.ModelT.InitFromPackedBuf(content, 0)
        if len(other.subgraphs) != 1:
            raise RetrainError(f"{name} is made of several graphs.", "Export zip, which takes its file as it is.")
        graph = other.subgraphs[0]
        (exit_,) = [number for number in graph.outputs if len(graph.tensors[number].shape) == POOLED]
        first_tensor, first_buffer = len(self.subgraph.tensors), len(self.model.buffers) - 1
        self.model.buffers += [_Buffer(buffer.data) for buffer in other.buffers[1:]]
        for tensor in graph.tensors:
            tensor.buffer = tensor.buffer and tensor.buffer + first_buffer
            tensor.name = f"{name}/{tensor.name.decode(errors='replace')}"
        self.subgraph.tensors += graph.tensors

        def moved(numbers):
            return _ints([
                number if number < 0 else entry if number == graph.inputs[0] else number + first_tensor
                for number in numbers
            ])  # fmt: skip

        for operator in graph.operators:
            operator.opcodeIndex = self._code(other.operatorCodes[operator.opcodeIndex])
            operator.inputs, operator.outputs = moved(operator.inputs), moved(operator.outputs)
            self.subgraph.operators.append(operator)
        embedding = int(exit_) + first_tensor
        self.subgraph.tensors[embedding].shape = _ints([1, self.shape(embedding)[-1]])
        if self.subgraph.tensors[embedding].type != schema.TensorType.FLOAT32:
            return self.apply("DEQUANTIZE", [embedding], self.shape(embedding), schema.DequantizeOptionsT())
        return embedding

    def _code(self, wanted):
        """Number of an operator code, which is added where it is not there."""
        for number, code in enumerate(self.model.operatorCodes):
            if vars(code) == vars(wanted):
                return number
        self.model.operatorCodes.append(wanted)
        return len(self.model.operatorCodes) - 1

    def content(self, exit_, metadata):
        """Bytes of the file, which ends in the tensor `exit_`."""
        self.subgraph.inputs, self.subgraph.outputs = _ints([self.entry]), _ints([exit_])
        self.subgraph.operators = _needed(self.subgraph.operators, exit_)
        maps = [[schema.TensorMapT(name, end)] for name, end in [(PIXELS, self.entry), (PROBABILITIES, exit_)]]
        self.model.signatureDefs = [schema.SignatureDefT(*maps, "serving_default", 0)]
        self.model.buffers.append(_Buffer(metadata))
        self.model.metadata = [schema.MetadataT(METADATA, len(self.model.buffers) - 1)]
        builder = flatbuffers.Builder(2**24)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _needed(operators, exit_):
    """Those that have a part in one tensor, in order: feature maps are left out."""
    wanted, kept = {int(exit_)}, []
    for operator in reversed(operators):
        if wanted.intersection(map(int, operator.outputs)):
            wanted.update(map(int, operator.inputs))
            kept.append(operator)
    return kept[::-1]


def _ints(values):
    return np.array(values, np.int32)


def _floats(values):
    return np.array(values, np.float32)
