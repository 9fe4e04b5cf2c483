import {
  BLOCK_LINEARS,
  linearName,
  linearShape,
  type BlockLinear,
  type LlamaConfig,
} from '../../model/config/llama-config.ts'
import { linearInputName, linearOutputName } from '../graph/decoder-block.ts'
import { GraphBuilder } from '../graph/graph-builder.ts'
import type { GraphNode, Initializer, OnnxGraph, ValueInfo } from '../graph/onnx-writer.ts'
import { ropeCache } from '../graph/rope.ts'
import { statisticTensorName } from '../statistics/statistic-names.ts'

/** Returns the name of the output with a linear's `Σ_t (∂L/∂y_t)²`, `[d_out]`. */
export function squaredGradientName(linear: BlockLinear): string {
  return `${linear}.squared_gradient`
}

/** Names of inputs and outputs of {@link buildBackwardBlock} and {@link buildLossGradient}. */
export const BACKWARD_NAMES = {
  hidden: 'hidden',
  outputGradient: 'output_gradient',
  inputGradient: 'input_gradient',
  targets: 'targets',
  loss: 'loss',
} as const

/**
 * Builds the graph of the backward pass of a decoder block, for one sequence. It serves every block of the model: the weights
 * are inputs, under their names in layer 0. It computes the forward pass again, so that only the input of the block has to be
 * kept.
 *
 * Inputs besides the weights: `hidden` `[tokens, hidden]` f32, the input of the block, from position 0 on;
 * `output_gradient` `[tokens, hidden]`, the gradient of the loss at the output of the block. Outputs: `input_gradient`
 * `[tokens, hidden]`, the gradient at `hidden`; {@link squaredGradientName} for every linear; `<input>.square_norm` `[d_in]`,
 * `Σ_t x_t²`, for every input of linears.
 *
 * @param length tokens of the sequence
 */
export function buildBackwardBlock(config: LlamaConfig, length: number): OnnxGraph {
  const graph = new BackwardBuilder(config, length)
  const attention = graph.forwardAttention()
  const mlp = graph.forwardMlp(attention.middle)
  const middle = graph.backwardMlp(mlp, attention.middle)
  graph.backwardAttention(attention, middle)
  const stream: ValueInfo['shape'] = [length, config.hiddenSize]
  return {
    name: 'backward_block',
    inputs: [
      { name: BACKWARD_NAMES.hidden, type: 'float32', shape: stream },
      { name: BACKWARD_NAMES.outputGradient, type: 'float32', shape: stream },
      ...graph.weightInputs,
    ],
    outputs: [
      { name: BACKWARD_NAMES.inputGradient, type: 'float32', shape: stream },
      ...graph.squaredInputs,
      ...BLOCK_LINEARS.map((linear): ValueInfo => ({
        name: squaredGradientName(linear),
        type: 'float32',
        shape: [linearShape(config, linear)[0]],
      })),
    ],
    initializers: graph.usedConstants(),
    nodes: graph.nodes,
  }
}

/**
 * Builds the graph of the loss of one sequence and its gradient. The loss is the sum of the negative log-likelihoods of the
 * tokens, after the final norm and the head.
 *
 * Inputs besides the weights: `hidden` `[tokens, hidden]` f32, the output of the last block; `targets` `[tokens, 1]` i64, the
 * token after each one; that of the last token is ignored. Outputs: `input_gradient` `[tokens, hidden]`, the gradient at
 * `hidden`; `loss` `[1]`, nats.
 */
export function buildLossGradient(config: LlamaConfig, length: number): OnnxGraph {
  const { vocabSize, hiddenSize, rmsNormEps, tiedEmbedding } = config
  const graph = new BackwardBuilder(config, length)
  const head = tiedEmbedding ? 'model.embed_tokens.weight' : 'lm_head.weight'
  const norm = 'model.norm.weight'
  graph.norm(BACKWARD_NAMES.hidden, norm, hiddenSize, rmsNormEps, 'normed')
  graph.linear('normed', head, [vocabSize, hiddenSize], 'logits')
  graph.constants.push(
    { name: 'one_hot_values', type: 'float32', shape: [2], data: Float32Array.of(0, 1) },
    { name: 'vocabulary', type: 'int64', shape: [1], data: BigInt64Array.of(BigInt(vocabSize)) },
    // The last token has no next token.
    {
      name: 'has_next',
      type: 'float32',
      shape: [length, 1],
      data: new Float32Array(length).fill(1, 0, length - 1),
    },
  )
  graph.add({
    op: 'LogSoftmax',
    inputs: ['logits'],
    outputs: ['logprobs'],
    attributes: { axis: { int: -1 } },
  })
  graph.add({
    op: 'GatherElements',
    inputs: ['logprobs', BACKWARD_NAMES.targets],
    outputs: ['target_logprobs'],
    attributes: { axis: { int: 1 } },
  })
  const losses = graph.op('Neg', [graph.op('Mul', ['target_logprobs', 'has_next'])])
  graph.add({
    op: 'ReduceSum',
    inputs: [losses, 'first_axis'],
    outputs: [BACKWARD_NAMES.loss],
    attributes: { keepdims: { int: 0 } },
  })
  graph.add({ op: 'Squeeze', inputs: [BACKWARD_NAMES.targets, 'last_axis'], outputs: ['target_ids'] })
  graph.add({
    op: 'OneHot',
    inputs: ['target_ids', 'vocabulary', 'one_hot_values'],
    outputs: ['one_hot'],
    attributes: { axis: { int: -1 } },
  })
  const logitGradient = graph.op('Sub', [graph.op('Exp', ['logprobs']), 'one_hot'])
  const normedGradient = graph.op('MatMul', [graph.op('Mul', [logitGradient, 'has_next']), head])
  graph.add({
    op: 'Identity',
    inputs: [graph.backwardNorm(normedGradient, BACKWARD_NAMES.hidden, norm)],
    outputs: [BACKWARD_NAMES.inputGradient],
  })
  return {
    name: 'loss_gradient',
    inputs: [
      { name: BACKWARD_NAMES.hidden, type: 'float32', shape: [length, hiddenSize] },
      { name: BACKWARD_NAMES.targets, type: 'int64', shape: [length, 1] },
      ...graph.weightInputs,
    ],
    outputs: [
      { name: BACKWARD_NAMES.inputGradient, type: 'float32', shape: [length, hiddenSize] },
      { name: BACKWARD_NAMES.loss, type: 'float32', shape: [1] },
    ],
    initializers: graph.usedConstants(),
    nodes: graph.nodes,
  }
}

const INPUT_NORM = 'model.layers.0.input_layernorm.weight'
const MLP_NORM = 'model.layers.0.post_attention_layernorm.weight'

/** Values of the attention's forward pass that its backward pass reads; heads are `[kvHeads, group, tokens, headDim]`. */
interface AttentionValues {
  query: string
  key: string
  value: string
  attention: string
  middle: string
}

/** Values of the MLP's forward pass that its backward pass reads, `[tokens, intermediate]` each. */
interface MlpValues {
  gate: string
  up: string
  sigmoid: string
  silu: string
}

/**
 * A builder of backward graphs that generates the names of values. Heads are `[kvHeads, group, tokens, headDim]`; keys and
 * values have a group of 1.
 */
class BackwardBuilder extends GraphBuilder {
  readonly #config: LlamaConfig
  /** Outputs with the square norms of the inputs of linears. */
  readonly squaredInputs: ValueInfo[] = []
  #values = 0

  constructor(config: LlamaConfig, length: number) {
    super('inputs')
    this.#config = config
    const { cos, sin } = ropeCache(config, length)
    const { heads, kvHeads, headDim, rmsNormEps } = config
    const shape = (name: string, ...sizes: number[]) =>
      this.constants.push({
        name,
        type: 'int64',
        shape: [sizes.length],
        data: BigInt64Array.from(sizes, (size) => BigInt(size)),
      })
    const scalar = (name: string, value: number) =>
      this.constants.push({ name, type: 'float32', shape: [], data: Float32Array.of(value) })
    const angles = [length, headDim / 2]
    this.constants.push(
      { name: 'cos', type: 'float32', shape: angles, data: cos },
      { name: 'sin', type: 'float32', shape: angles, data: sin },
      { name: 'causal_mask', type: 'float32', shape: [length, length], data: causalMask(length) },
    )
    shape('query_shape', length, kvHeads, heads / kvHeads, headDim)
    shape('key_shape', length, kvHeads, 1, headDim)
    shape('flat', length, -1)
    shape('first_axis', 0)
    shape('last_axis', -1)
    shape('group_axis', 1)
    scalar('scale', headDim ** -0.5)
    scalar('one', 1)
    scalar('epsilon', rmsNormEps)
  }

  /** Returns the constants that some node reads. */
  usedConstants(): Initializer[] {
    const read = new Set(this.nodes.flatMap(({ inputs }) => inputs))
    return this.constants.filter(({ name }) => read.has(name))
  }

  /** Adds a node with one output, and returns the name of the output. */
  op(op: string, inputs: readonly string[], attributes: GraphNode['attributes'] = {}): string {
    const name = `v${this.#values++}`
    this.add({ op, inputs, outputs: [name], attributes })
    return name
  }

  forwardAttention(): AttentionValues {
    const { hiddenSize, rmsNormEps } = this.#config
    this.norm(
      BACKWARD_NAMES.hidden,
      INPUT_NORM,
      hiddenSize,
      rmsNormEps,
      linearInputName(0, 'self_attn.q_proj'),
    )
    const query = this.#rotate(this.#asHeads(this.#forward('self_attn.q_proj'), 'query_shape'), 1)
    const key = this.#rotate(this.#asHeads(this.#forward('self_attn.k_proj'), 'key_shape'), 1)
    const value = this.#asHeads(this.#forward('self_attn.v_proj'), 'key_shape')
    const scores = this.op('Mul', [this.op('MatMul', [query, this.#transposed(key)]), 'scale'])
    const attention = this.op('Softmax', [this.op('Add', [scores, 'causal_mask'])], { axis: { int: -1 } })
    const attended = this.#flat(this.op('MatMul', [attention, value]))
    this.add({ op: 'Identity', inputs: [attended], outputs: [linearInputName(0, 'self_attn.o_proj')] })
    const middle = this.op('Add', [BACKWARD_NAMES.hidden, this.#forward('self_attn.o_proj')])
    return { query, key, value, attention, middle }
  }

  forwardMlp(middle: string): MlpValues {
    const { hiddenSize, rmsNormEps } = this.#config
    this.norm(middle, MLP_NORM, hiddenSize, rmsNormEps, linearInputName(0, 'mlp.gate_proj'))
    const gate = this.#forward('mlp.gate_proj')
    const up = this.#forward('mlp.up_proj')
    const sigmoid = this.op('Sigmoid', [gate])
    this.weight(linearName(0, 'mlp.down_proj'), linearShape(this.#config, 'mlp.down_proj'))
    const silu = this.op('Mul', [gate, sigmoid])
    this.add({ op: 'Mul', inputs: [silu, up], outputs: [linearInputName(0, 'mlp.down_proj')] })
    return { gate, up, sigmoid, silu }
  }

  /** Returns the gradient at `middle`. */
  backwardMlp({ gate, up, sigmoid, silu }: MlpValues, middle: string): string {
    const gatedGradient = this.#backward('mlp.down_proj', BACKWARD_NAMES.outputGradient)
    const upGradient = this.op('Mul', [gatedGradient, silu])
    // silu'(x) = σ(x) (1 + x (1 − σ(x)))
    const rest = this.op('Mul', [gate, this.op('Sub', ['one', sigmoid])])
    const slope = this.op('Mul', [sigmoid, this.op('Add', ['one', rest])])
    const gateGradient = this.op('Mul', [this.op('Mul', [gatedGradient, up]), slope])
    const normedGradient = this.op('Add', [
      this.#backward('mlp.gate_proj', gateGradient),
      this.#backward('mlp.up_proj', upGradient),
    ])
    return this.op('Add', [
      BACKWARD_NAMES.outputGradient,
      this.backwardNorm(normedGradient, middle, MLP_NORM),
    ])
  }

  /** Adds the backward pass of the attention, which ends in `input_gradient`. */
  backwardAttention({ query, key, value, attention }: AttentionValues, middleGradient: string): void {
    const headsGradient = this.#asHeads(this.#backward('self_attn.o_proj', middleGradient), 'query_shape')
    const valueGradient = this.#groupSum(this.op('MatMul', [this.#transposed(attention), headsGradient]))
    const attentionGradient = this.op('MatMul', [headsGradient, this.#transposed(value)])
    // Attention weights sum to 1, so a gradient that all of them share has no effect.
    const sharedGradient = this.op('ReduceSum', [this.op('Mul', [attentionGradient, attention]), 'last_axis'])
    const scoreGradient = this.op('Mul', [
      this.op('Mul', [this.op('Sub', [attentionGradient, sharedGradient]), attention]),
      'scale',
    ])
    const queryGradient = this.#rotate(this.op('MatMul', [scoreGradient, key]), -1)
    const keyGradient = this.#rotate(
      this.#groupSum(this.op('MatMul', [this.#transposed(scoreGradient), query])),
      -1,
    )
    const normedGradient = this.op('Sum', [
      this.#backward('self_attn.q_proj', this.#flat(queryGradient)),
      this.#backward('self_attn.k_proj', this.#flat(keyGradient)),
      this.#backward('self_attn.v_proj', this.#flat(valueGradient)),
    ])
    const norm = this.backwardNorm(normedGradient, BACKWARD_NAMES.hidden, INPUT_NORM)
    this.add({ op: 'Add', inputs: [middleGradient, norm], outputs: [BACKWARD_NAMES.inputGradient] })
  }

  /** Returns the gradient at x of `y = x r γ` with `r = (mean x² + ε)^-½`: `r g − x r³ mean(g x)` with `g = γ ∂y`. */
  backwardNorm(gradient: string, x: string, gamma: string): string {
    const meanSquare = this.op('ReduceMean', [this.op('Mul', [x, x]), 'last_axis'])
    const scale = this.op('Reciprocal', [this.op('Sqrt', [this.op('Add', [meanSquare, 'epsilon'])])])
    const scaled = this.op('Mul', [x, scale])
    const weighed = this.op('Mul', [gradient, gamma])
    const projection = this.op('ReduceMean', [this.op('Mul', [weighed, scaled]), 'last_axis'])
    return this.op('Mul', [scale, this.op('Sub', [weighed, this.op('Mul', [scaled, projection])])])
  }

  #forward(linear: BlockLinear): string {
    const y = linearOutputName(0, linear)
    this.linear(linearInputName(0, linear), linearName(0, linear), linearShape(this.#config, linear), y)
    return y
  }

  /** Adds outputs with the squares of a linear's input and output gradient, and returns the gradient at its input. */
  #backward(linear: BlockLinear, gradient: string): string {
    this.#squares(gradient, squaredGradientName(linear))
    const [, cols] = linearShape(this.#config, linear)
    const squared = statisticTensorName('square_norm', linear)
    if (!this.squaredInputs.some(({ name }) => name === squared)) {
      this.squaredInputs.push({ name: squared, type: 'float32', shape: [cols] })
      this.#squares(linearInputName(0, linear), squared)
    }
    return this.op('MatMul', [gradient, linearName(0, linear)])
  }

  /** Adds the output with the sums of squares of the columns of `x`. */
  #squares(x: string, output: string): void {
    this.add({
      op: 'ReduceSumSquare',
      inputs: [x, 'first_axis'],
      outputs: [output],
      attributes: { keepdims: { int: 0 } },
    })
  }

  /** Splits `[tokens, heads · headDim]` into heads. */
  #asHeads(flat: string, shape: 'query_shape' | 'key_shape'): string {
    return this.op('Transpose', [this.op('Reshape', [flat, shape])], { perm: { ints: [1, 2, 0, 3] } })
  }

  #flat(heads: string): string {
    return this.op('Reshape', [this.op('Transpose', [heads], { perm: { ints: [2, 0, 1, 3] } }), 'flat'])
  }

  #transposed(heads: string): string {
    return this.op('Transpose', [heads], { perm: { ints: [0, 1, 3, 2] } })
  }

  /** Sums over the queries of a group, which share a key and a value. */
  #groupSum(heads: string): string {
    return this.op('ReduceSum', [heads, 'group_axis'])
  }

  /** Applies the rotary embedding, or with -1 its backward pass: the transpose of a rotation rotates the other way. */
  #rotate(heads: string, direction: 1 | -1): string {
    const halves = [`v${this.#values++}`, `v${this.#values++}`] as const
    this.add({
      op: 'Split',
      inputs: [heads],
      outputs: halves,
      attributes: { axis: { int: -1 }, num_outputs: { int: 2 } },
    })
    const [first, second] = halves
    const [minus, plus] = direction === 1 ? (['Sub', 'Add'] as const) : (['Add', 'Sub'] as const)
    const turned = [
      this.op(minus, [this.op('Mul', [first, 'cos']), this.op('Mul', [second, 'sin'])]),
      this.op(plus, [this.op('Mul', [second, 'cos']), this.op('Mul', [first, 'sin'])]),
    ]
    return this.op('Concat', turned, { axis: { int: -1 } })
  }
}

/** Returns the causal mask that is added to attention scores, `[length, length]`: a token cannot read later tokens. */
function causalMask(length: number): Float32Array {
  const mask = new Float32Array(length * length)
  for (let row = 0; row < length; row++) mask.fill(-1e9, row * length + row + 1, (row + 1) * length)
  return mask
}
