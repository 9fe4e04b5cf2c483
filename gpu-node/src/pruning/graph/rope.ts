import type { LlamaConfig, RopeScaling } from '../../model/config/llama-config.ts'

/** Cosines and sines of the rotary angles, `[positions, headDim / 2]` f32 row-major each. */
export interface RopeCache {
  cos: Float32Array
  sin: Float32Array
}

/**
 * Returns the angular frequencies of the rotary embedding after `ropeScaling`, in radians per position, `[headDim / 2]`.
 *
 * @see Su et al. 2021, RoFormer, for the base frequencies; Hugging Face `modeling_rope_utils` for the scaling types
 * `linear` and `llama3`
 */
export function ropeFrequencies(config: LlamaConfig): Float64Array {
  const { headDim, ropeTheta, ropeScaling } = config
  return Float64Array.from({ length: headDim / 2 }, (_, pair) =>
    scaleFrequency(ropeTheta ** ((-2 * pair) / headDim), ropeScaling),
  )
}

/** Computes cosines and sines for positions `0 … positions - 1`, in f64, rounded once to f32. */
export function ropeCache(config: LlamaConfig, positions: number): RopeCache {
  const frequencies = ropeFrequencies(config)
  const cos = new Float32Array(positions * frequencies.length)
  const sin = new Float32Array(positions * frequencies.length)
  for (let position = 0; position < positions; position++) {
    for (const [pair, frequency] of frequencies.entries()) {
      const angle = position * frequency
      cos[position * frequencies.length + pair] = Math.cos(angle)
      sin[position * frequencies.length + pair] = Math.sin(angle)
    }
  }
  return { cos, sin }
}

function scaleFrequency(frequency: number, scaling: RopeScaling | null): number {
  if (scaling === null) return frequency
  if (scaling.type === 'linear') return frequency / scaling.factor
  // llama3: high frequencies stay, low ones are divided by `factor`. Between the two limits the result is interpolated
  // linearly in the number of turns within the original context.
  const turns = (scaling.originalContextLength * frequency) / (2 * Math.PI)
  if (turns > scaling.highFreqFactor) return frequency
  if (turns < scaling.lowFreqFactor) return frequency / scaling.factor
  const kept = (turns - scaling.lowFreqFactor) / (scaling.highFreqFactor - scaling.lowFreqFactor)
  return (1 - kept) * (frequency / scaling.factor) + kept * frequency
}
