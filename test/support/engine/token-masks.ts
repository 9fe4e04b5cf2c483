import type { TokenMask } from '../../../gpu-node/src/serving/contract/backend.ts'

/** Returns the mask that allows only the given tokens. */
export function maskOf(vocabSize: number, tokens: Iterable<number>): TokenMask {
  const mask = new Uint32Array(Math.ceil(vocabSize / 32))
  for (const token of tokens) mask[token >>> 5] = (mask[token >>> 5] as number) | (1 << (token & 31))
  return mask
}

/** Returns the tokens that a mask allows. */
export function tokensOf(mask: TokenMask): number[] {
  const tokens: number[] = []
  for (let token = 0; token < mask.length * 32; token++)
    if ((((mask[token >>> 5] as number) >>> (token & 31)) & 1) === 1) tokens.push(token)
  return tokens
}
