/** Puts the tokens that a device withholds from its candidates, because their logits are adjusted, back among them. */
import { logitAt, tokenAt, type Candidates } from './candidates.ts'

/** Tokens that a device left out of the {@link Candidates}. */
export interface WithheldTokens {
  /** In ascending order. */
  tokens: Int32Array
  /** Their logits as the model computed them. */
  logits: Float32Array
}

/** The logit that a withheld token has on the device. The GPU addon states it. */
const WITHHELD = -1e30

/**
 * Returns candidates among which the withheld tokens are, with logits of the caller's. They are at least as many as before,
 * and again the most probable of all tokens.
 *
 * @param temperature the one at which the device added up the weights
 * @param logitOf returns the logit of a withheld token from that of the model, rounded to f32
 */
export function joinWithheld(
  candidates: Candidates,
  temperature: number,
  logitOf: (token: number, logit: number) => number,
): Candidates {
  const { withheld, vocabSize } = candidates
  if (!withheld) return candidates
  const { tokens } = withheld
  const rest = withoutWithheld(candidates.pairs)
  // Only weights that are damaged leave nothing.
  if (rest.length === 0) return { ...candidates, pairs: rest }
  const logits = withheld.logits.map((logit, index) => logitOf(tokens[index] as number, logit))
  const pairs = joinPairs(rest, { tokens, logits }, vocabSize)
  const best = logitAt(pairs, 0)
  /** Returns the sum of the weights of the first `count` withheld tokens, and of others, all relative to the best logit. */
  const sumAt = (t: number, others: number, count = tokens.length) => {
    let sum = others * Math.exp((logitAt(rest, 0) - best) / t)
    for (let index = 0; index < count; index++) sum += Math.exp(((logits[index] as number) - best) / t)
    return sum
  }
  const sumOf = (others: number, count: number) => sumAt(temperature, others, count)
  return {
    pairs,
    vocabSize,
    sum: sumAt(1, candidates.sum),
    sumAtTemperature: sumAt(temperature, candidates.sumAtTemperature),
    part: candidates.part && joinPart(candidates.part, { tokens, logits }, sumOf),
  }
}

/** Returns the pairs before those of withheld tokens, which come last. */
function withoutWithheld(pairs: Float32Array): Float32Array {
  let count = pairs.length / 2
  while (count > 0 && logitAt(pairs, count - 1) <= WITHHELD) count -= 1
  return pairs.subarray(0, 2 * count)
}

/** Merges withheld tokens into pairs, up to the last pair: there may be other tokens between those behind it. */
function joinPairs(rest: Float32Array, { tokens, logits }: WithheldTokens, vocabSize: number): Float32Array {
  const count = rest.length / 2
  const isWhole = count + tokens.length === vocabSize
  const joined: [token: number, logit: number][] = []
  for (const [index, token] of tokens.entries()) {
    const logit = logits[index] as number
    if (isWhole || !comesBefore(rest, count - 1, token, logit)) joined.push([token, logit])
  }
  joined.sort(([a, x], [b, y]) => (Number.isNaN(x) ? -1 : Number.isNaN(y) ? 1 : y - x || a - b))
  const pairs = new Float32Array(rest.length + 2 * joined.length)
  let [rank, length] = [0, 0]
  for (const [token, logit] of joined) {
    const from = rank
    while (rank < count && comesBefore(rest, rank, token, logit)) rank += 1
    pairs.set(rest.subarray(2 * from, 2 * rank), length)
    length += 2 * (rank - from)
    pairs[length++] = token
    pairs[length++] = logit
  }
  pairs.set(rest.subarray(2 * rank), length)
  return pairs
}

/** Returns whether the pair at a rank comes before a token with this logit. Pairs whose logit is NaN come first. */
function comesBefore(pairs: Float32Array, rank: number, token: number, logit: number): boolean {
  const own = logitAt(pairs, rank)
  return Number.isNaN(own) || own > logit || (own === logit && tokenAt(pairs, rank) < token)
}

function joinPart(
  { start, before, logits: others }: NonNullable<Candidates['part']>,
  { tokens, logits }: WithheldTokens,
  sumOf: (others: number, count: number) => number,
): Candidates['part'] {
  const joined = others.slice()
  let lower = 0
  for (const [index, token] of tokens.entries()) {
    if (token < start) lower += 1
    else if (token < start + joined.length) joined[token - start] = logits[index] as number
  }
  return { start, before: sumOf(before, lower), logits: joined }
}
