import type { RopeScaling } from './llama-config.ts'

type Llama3Scaling = Extract<RopeScaling, { type: 'llama3' }>

/** Value that every released LLaMA 3 uses; also used where the factors do not determine the parameters. */
const RELEASED = { lowFreqFactor: 1, highFreqFactor: 4, originalContextLength: 8192 }

/** Tolerance for factors, which were computed and stored in f32. */
const TOLERANCE = 1e-4

/**
 * Returns the divisor of each rotary pair's frequency under `llama3` rope scaling: 1 for short wavelengths, `factor` for
 * long ones, a blend between (Transformers, `_compute_llama3_parameters`).
 *
 * @returns `[headDim / 2]`
 */
export function llama3Factors(scaling: Llama3Scaling, headDim: number, theta: number): number[] {
  const { factor, lowFreqFactor, highFreqFactor, originalContextLength } = scaling
  return wavelengths(headDim, theta).map((wavelength) => {
    const smooth = (originalContextLength / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor)
    const share = Math.min(1, Math.max(0, smooth))
    return 1 / ((1 - share) / factor + share)
  })
}

/**
 * Recovers the scaling parameters from the factors in a GGUF; llama.cpp stores only the factors.
 *
 * @param factors `[headDim / 2]`
 * @returns `null` when all are 1, `undefined` when they are not those of `llama3` scaling
 */
export function fitLlama3Scaling(
  factors: Float32Array,
  headDim: number,
  theta: number,
): Llama3Scaling | null | undefined {
  if (factors.length !== headDim / 2) return undefined
  if (factors.every((factor) => factor === 1)) return null
  const factor = Math.max(...factors)
  const candidates: Llama3Scaling[] = [{ type: 'llama3', factor, ...RELEASED }]
  const fitted = fitBlend(factors, factor, wavelengths(headDim, theta))
  if (fitted !== undefined) candidates.push(fitted)
  return candidates.find((candidate) =>
    llama3Factors(candidate, headDim, theta).every(
      (expected, pair) => Math.abs(expected - factors[pair]!) <= TOLERANCE * expected,
    ),
  )
}

/**
 * Solves `share = (L / wavelength − low) / (high − low)` from the two outermost blended pairs. Only
 * `low / L` and `high / L` matter, so `low` is set to 1.
 */
function fitBlend(
  factors: Float32Array,
  factor: number,
  lengths: readonly number[],
): Llama3Scaling | undefined {
  const blended = [...factors.keys()].filter((pair) => factors[pair]! > 1 && factors[pair]! < factor)
  const [first, last] = [blended[0], blended.at(-1)]
  if (first === undefined || last === undefined || first === last) return undefined
  const share = (pair: number) => (1 / factors[pair]! - 1 / factor) / (1 - 1 / factor)
  const slope = (share(first) - share(last)) / (1 / lengths[first]! - 1 / lengths[last]!)
  const offset = slope / lengths[first]! - share(first)
  // slope = L / (high − 1), offset = 1 / (high − 1)
  return {
    type: 'llama3',
    factor,
    lowFreqFactor: 1,
    highFreqFactor: rounded(1 + 1 / offset),
    originalContextLength: rounded(slope / offset),
  }
}

/** Rounds a value that is almost an integer to it. */
function rounded(value: number): number {
  const integer = Math.round(value)
  return Math.abs(value - integer) < 1e-3 * integer ? integer : value
}

function wavelengths(headDim: number, theta: number): number[] {
  return Array.from({ length: headDim / 2 }, (_, pair) => 2 * Math.PI * theta ** ((2 * pair) / headDim))
}
