import type { TinyLlamaOptions } from './tiny-llama.ts'

/** Tiny models whose forward passes differ. */
export const TINY_VARIANTS: TinyLlamaOptions[] = [
  {},
  { tied: false, seed: 2 },
  { ropeScaling: { type: 'linear', factor: 4 } },
  {
    ropeScaling: {
      type: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalContextLength: 32,
    },
  },
  { heads: 6, kvHeads: 2, headDim: 32, layers: 1 },
]
