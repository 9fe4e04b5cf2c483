import {
  linearName,
  linearShape,
  type BlockLinear,
  type LlamaConfig,
} from '../../../gpu-node/src/model/config/llama-config.ts'
import { ropeFrequencies } from '../../../gpu-node/src/pruning/graph/rope.ts'
import type { StoredTensor } from './safetensors-writer.ts'

/** A matrix as rows of f64. */
export type Matrix = number[][]

/** The input and output of every linear of a block, `[length, d_in]` and `[length, d_out]`. */
export interface BlockTrace {
  inputs: Record<BlockLinear, Matrix>
  outputs: Record<BlockLinear, Matrix>
  /** The residual stream after attention, and the output of the block. */
  middle: Matrix
  hidden: Matrix
}

/** Changes the output of a linear before it is read: for derivatives by finite differences. */
export type Nudge = (name: string, outputs: Matrix) => void

/** Computes one decoder block on one sequence in plain f64, written from the LLaMA papers: the oracle of the graphs. */
export function referenceBlock(
  config: LlamaConfig,
  tensors: ReadonlyMap<string, Pick<StoredTensor, 'values'>>,
  layer: number,
  hidden: Matrix,
  nudge: Nudge = () => undefined,
): BlockTrace {
  const inputs: Partial<Record<BlockLinear, Matrix>> = {}
  const outputs: Partial<Record<BlockLinear, Matrix>> = {}
  const weights = (name: string) => tensors.get(name)!.values
  const linear = (name: BlockLinear, x: Matrix): Matrix => {
    const [rows, cols] = linearShape(config, name)
    const w = weights(linearName(layer, name))
    const y = x.map((row) =>
      Array.from({ length: rows }, (_, r) => {
        let sum = 0
        for (let c = 0; c < cols; c++) sum += w[r * cols + c]! * row[c]!
        return sum
      }),
    )
    nudge(linearName(layer, name), y)
    inputs[name] = x
    outputs[name] = y
    return y
  }
  const norm = (name: string, x: Matrix): Matrix => {
    const gamma = weights(`model.layers.${layer}.${name}.weight`)
    return x.map((row) => {
      const scale = 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / row.length + config.rmsNormEps)
      return row.map((v, i) => v * scale * gamma[i]!)
    })
  }
  const add = (a: Matrix, b: Matrix): Matrix => a.map((row, i) => row.map((v, j) => v + b[i]![j]!))

  const x = norm('input_layernorm', hidden)
  const q = rotate(config, linear('self_attn.q_proj', x))
  const k = rotate(config, linear('self_attn.k_proj', x))
  const v = linear('self_attn.v_proj', x)
  const middle = add(hidden, linear('self_attn.o_proj', attend(config, q, k, v)))
  const m = norm('post_attention_layernorm', middle)
  const gate = linear('mlp.gate_proj', m)
  const up = linear('mlp.up_proj', m)
  const gated = gate.map((row, i) => row.map((g, j) => (g / (1 + Math.exp(-g))) * up[i]![j]!))
  return {
    middle,
    hidden: add(middle, linear('mlp.down_proj', gated)),
    inputs: inputs as BlockTrace['inputs'],
    outputs: outputs as BlockTrace['outputs'],
  }
}

/** Rotary embedding in half-split order, position = row. */
function rotate({ headDim, ...config }: LlamaConfig, x: Matrix): Matrix {
  const frequencies = ropeFrequencies({ headDim, ...config })
  return x.map((row, position) => {
    const out = [...row]
    for (let head = 0; head < row.length; head += headDim) {
      for (let i = 0; i < headDim / 2; i++) {
        const [cos, sin] = [Math.cos(position * frequencies[i]!), Math.sin(position * frequencies[i]!)]
        const [a, b] = [row[head + i]!, row[head + headDim / 2 + i]!]
        out[head + i] = a * cos - b * sin
        out[head + headDim / 2 + i] = b * cos + a * sin
      }
    }
    return out
  })
}

/** Causal grouped-query attention. */
function attend({ heads, kvHeads, headDim }: LlamaConfig, q: Matrix, k: Matrix, v: Matrix): Matrix {
  return q.map((row, t) => {
    const out = Array.from({ length: heads * headDim }, () => 0)
    for (let head = 0; head < heads; head++) {
      const kv = Math.floor(head / (heads / kvHeads)) * headDim
      const scores = Array.from({ length: t + 1 }, (_, s) => {
        let dot = 0
        for (let i = 0; i < headDim; i++) dot += row[head * headDim + i]! * k[s]![kv + i]!
        return Math.exp(dot / Math.sqrt(headDim))
      })
      const total = scores.reduce((sum, score) => sum + score, 0)
      for (let s = 0; s <= t; s++) {
        for (let i = 0; i < headDim; i++) out[head * headDim + i]! += (scores[s]! / total) * v[s]![kv + i]!
      }
    }
    return out
  })
}
