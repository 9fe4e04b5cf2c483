/** By how much the novelty of an embedding counts beside the lead of the background, which is blind to kinds unlike both. */
const NOVELTY_WEIGHT = 0.4

/** Returns how far the output of the background, which is the last, is above the best one of a domain. */
export function backgroundLead(outputs: ArrayLike<number>): number {
  const last = outputs.length - 1
  let best = -Infinity
  for (let c = 0; c < last; c++) best = Math.max(best, outputs[c]!)
  return outputs[last]! - best
}

/**
 * Returns how unlike the domains a text is, by the lead of the background and the novelty of the embedding.
 *
 * @param lead mean and deviation of the lead over examples that were left out
 */
export function combineWithLead(lead: readonly [number, number], value: number, novelty: number): number {
  return (value - lead[0]) / lead[1] + NOVELTY_WEIGHT * novelty
}
