import { BinaryWriter } from '@bufbuild/protobuf/wire'

/** The element types of our graphs, with their numbers in `TensorProto.DataType`. */
const ELEMENT_TYPES = { float32: 1, uint8: 2, int32: 6, int64: 7, bool: 9, float64: 11 } as const
export type ElementType = keyof typeof ELEMENT_TYPES

/** A dimension: its size, or a name if the size is known only at run time. */
export type Dimension = number | string

/** A graph input or output. */
export interface ValueInfo {
  name: string
  type: ElementType
  shape: readonly Dimension[]
}

/** An attribute value with its type, because a JavaScript number may be an ONNX int or float. */
export type Attribute =
  | { int: number }
  | { float: number }
  | { string: string }
  | { ints: readonly number[] }
  | { floats: readonly number[] }

/** An operator of a graph, with its inputs and outputs. */
export interface GraphNode {
  /** Operator, such as `MatMul` or `GroupQueryAttention`. */
  op: string
  /** Operator set. Default: ONNX's own. `com.microsoft` for ONNX Runtime's contributed operators. */
  domain?: string
  /** Unique in the graph; used in error messages and profiles. Default: the name of the first output. */
  name?: string
  /** Names of values; an empty string omits an optional input. */
  inputs: readonly string[]
  /** Names of values; an empty string omits an optional output. */
  outputs: readonly string[]
  attributes?: Readonly<Record<string, Attribute>>
}

/** A constant tensor, with its bytes in the model or in a file in the model's directory. */
export type Initializer = {
  name: string
  type: ElementType
  shape: readonly number[]
} & ({ data: ArrayBufferView } | { external: ExternalData })

/** Bytes `offset … offset + length - 1` of a file whose path is relative to the model file's directory. */
export interface ExternalData {
  location: string
  offset: number
  length: number
}

/** An ONNX graph. */
export interface OnnxGraph {
  name: string
  inputs: readonly ValueInfo[]
  outputs: readonly ValueInfo[]
  initializers: readonly Initializer[]
  /** In topological order: every value is computed before it is used. */
  nodes: readonly GraphNode[]
}

/** Version of the file format. It has every message that is written here, and ONNX Runtime 1.30 reads it. */
const IR_VERSION = 10
/** Version of ONNX's own operator set. */
const OPSET = 21

/**
 * Encodes a graph as an ONNX model (`ModelProto`, IR version 10, opset 21 and `com.microsoft` 1).
 *
 * ```ts
 * const model = encodeModel({
 *   name: 'linear',
 *   inputs: [{ name: 'x', type: 'float32', shape: ['tokens', 576] }],
 *   outputs: [{ name: 'y', type: 'float32', shape: ['tokens', 1536] }],
 *   initializers: [
 *     { name: 'w', type: 'float32', shape: [1536, 576],
 *       external: { location: 'master.safetensors', offset: 4096, length: 1536 * 576 * 4 } },
 *     { name: 'axes', type: 'int64', shape: [1], data: new BigInt64Array([1n]) },
 *   ],
 *   nodes: [{ op: 'Gemm', inputs: ['x', 'w'], outputs: ['y'], attributes: { transB: { int: 1 } } }],
 * })
 * const session = await InferenceSession.create(model)   // no external data: bytes are enough
 * ```
 *
 * It checks only that the bytes of initializers match their shapes, because the runtime's own error for that is obscure.
 * A model with external data is written to a file beside the data and loaded by path, or the session option
 * `model_external_initializers_file_folder_path` gives the directory of the data.
 *
 * @throws RangeError when an initializer's bytes do not match its type and shape
 * @see https://github.com/onnx/onnx/blob/main/onnx/onnx.proto for the field numbers
 */
export function encodeModel(graph: OnnxGraph): Uint8Array {
  const writer = new BinaryWriter()
  writer.tag(1, VARINT).int64(IR_VERSION)
  writer.tag(2, LENGTH_DELIMITED).string('copal')
  writeMessage(writer, 7, (message) => writeGraph(message, graph))
  for (const [domain, version] of [['', OPSET] as const, ['com.microsoft', 1] as const]) {
    writeMessage(writer, 8, (message) => {
      message.tag(1, LENGTH_DELIMITED).string(domain)
      message.tag(2, VARINT).int64(version)
    })
  }
  return writer.finish()
}

/** Returns the size of one element in bytes. */
function elementBytes(type: ElementType): number {
  switch (type) {
    case 'uint8':
    case 'bool':
      return 1
    case 'float32':
    case 'int32':
      return 4
    case 'int64':
    case 'float64':
      return 8
  }
}

/** Protobuf wire types. */
const VARINT = 0
const LENGTH_DELIMITED = 2
const FIXED32 = 5

function writeMessage(writer: BinaryWriter, field: number, write: (message: BinaryWriter) => void): void {
  writer.tag(field, LENGTH_DELIMITED).fork()
  write(writer)
  writer.join()
}

/** Writes a GraphProto. */
function writeGraph(writer: BinaryWriter, graph: OnnxGraph): void {
  for (const node of graph.nodes) writeMessage(writer, 1, (message) => writeNode(message, node))
  writer.tag(2, LENGTH_DELIMITED).string(graph.name)
  for (const tensor of graph.initializers) writeMessage(writer, 5, (message) => writeTensor(message, tensor))
  for (const value of graph.inputs) writeMessage(writer, 11, (message) => writeValueInfo(message, value))
  for (const value of graph.outputs) writeMessage(writer, 12, (message) => writeValueInfo(message, value))
}

/** Writes a NodeProto. */
function writeNode(writer: BinaryWriter, node: GraphNode): void {
  for (const input of node.inputs) writer.tag(1, LENGTH_DELIMITED).string(input)
  for (const output of node.outputs) writer.tag(2, LENGTH_DELIMITED).string(output)
  writer.tag(3, LENGTH_DELIMITED).string(node.name ?? node.outputs[0] ?? node.op)
  writer.tag(4, LENGTH_DELIMITED).string(node.op)
  for (const [name, attribute] of Object.entries(node.attributes ?? {})) {
    writeMessage(writer, 5, (message) => writeAttribute(message, name, attribute))
  }
  if (node.domain !== undefined) writer.tag(7, LENGTH_DELIMITED).string(node.domain)
}

/** Writes an AttributeProto: the value, and its type in field 20. */
function writeAttribute(writer: BinaryWriter, name: string, attribute: Attribute): void {
  writer.tag(1, LENGTH_DELIMITED).string(name)
  if ('float' in attribute) {
    writer.tag(2, FIXED32).float(attribute.float)
    writer.tag(20, VARINT).int32(1)
  } else if ('int' in attribute) {
    writer.tag(3, VARINT).int64(attribute.int)
    writer.tag(20, VARINT).int32(2)
  } else if ('string' in attribute) {
    writer.tag(4, LENGTH_DELIMITED).string(attribute.string)
    writer.tag(20, VARINT).int32(3)
  } else if ('floats' in attribute) {
    for (const value of attribute.floats) writer.tag(7, FIXED32).float(value)
    writer.tag(20, VARINT).int32(6)
  } else {
    for (const value of attribute.ints) writer.tag(8, VARINT).int64(value)
    writer.tag(20, VARINT).int32(7)
  }
}

/** Writes a TensorProto. */
function writeTensor(writer: BinaryWriter, tensor: Initializer): void {
  const expected = tensor.shape.reduce((product, size) => product * size, elementBytes(tensor.type))
  const actual = 'data' in tensor ? tensor.data.byteLength : tensor.external.length
  if (actual !== expected) {
    throw new RangeError(
      `initializer ${tensor.name}: ${tensor.type} [${tensor.shape.join(', ')}] takes ${expected} bytes, got ${actual}`,
    )
  }
  for (const size of tensor.shape) writer.tag(1, VARINT).int64(size)
  writer.tag(2, VARINT).int32(ELEMENT_TYPES[tensor.type])
  writer.tag(8, LENGTH_DELIMITED).string(tensor.name)
  if ('data' in tensor) {
    const { buffer, byteOffset, byteLength } = tensor.data
    writer.tag(9, LENGTH_DELIMITED).bytes(new Uint8Array(buffer, byteOffset, byteLength))
    return
  }
  const { location, offset, length } = tensor.external
  for (const [key, value] of Object.entries({ location, offset, length })) {
    writeMessage(writer, 13, (message) => {
      message.tag(1, LENGTH_DELIMITED).string(key)
      message.tag(2, LENGTH_DELIMITED).string(String(value))
    })
  }
  writer.tag(14, VARINT).int32(1)
}

/** Writes a ValueInfoProto with its TypeProto, TensorShapeProto and Dimensions. */
function writeValueInfo(writer: BinaryWriter, value: ValueInfo): void {
  writer.tag(1, LENGTH_DELIMITED).string(value.name)
  writeMessage(writer, 2, (type) =>
    writeMessage(type, 1, (tensorType) => {
      tensorType.tag(1, VARINT).int32(ELEMENT_TYPES[value.type])
      writeMessage(tensorType, 2, (shape) => {
        for (const size of value.shape) {
          writeMessage(shape, 1, (dimension) => {
            if (typeof size === 'number') dimension.tag(1, VARINT).int64(size)
            else dimension.tag(2, LENGTH_DELIMITED).string(size)
          })
        }
      })
    }),
  )
}
