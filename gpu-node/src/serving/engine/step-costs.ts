/** Weight of the last step among those before it. */
const DECAY = 0.98
/** What one more token is taken to cost, relative to a step of one token, until steps of several sizes were seen. */
const FIRST_SHARE = 0.1
/** Least variance of the number of tokens by which the cost of one can be told. */
const LEAST_VARIANCE = 0.05
/** Steps of each size that do not count: a GPU loads kernels in the first one, and records their graph in the second. */
const FIRST_STEPS = 2
/** Longest step that counts, relative to what it was expected to take: a longer one waited for something else. */
const LONGEST = 3

/** What steps cost by their number of tokens: a straight line, by weighted least squares over the latest steps. */
export interface StepCosts {
  /** Learns from a step of a few tokens. */
  observe(tokens: number, durationMs: number): void
  /**
   * Returns the time of one more token in a step of `tokens`, relative to the time that each of the `sampled` tokens takes
   * which the step is expected to sample: the least chance at which one more is worth it.
   */
  costOfOneMore(tokens: number, sampled: number): number
}

/** Creates the costs of a weight set of which no step was seen. */
export function createStepCosts(): StepCosts {
  /** Sums over steps of 1, their tokens, their time, and products of these. */
  let [weights, tokens, squares, times, products] = [0, 0, 0, 0, 0]
  /** How many of its first steps each size has had. */
  const seen = new Map<number, number>()

  function line(): { once: number; each: number } {
    if (weights === 0) return { once: 1, each: FIRST_SHARE / (1 - FIRST_SHARE) }
    const [meanTokens, meanTime] = [tokens / weights, times / weights]
    const variance = squares / weights - meanTokens ** 2
    const prior = (meanTime * FIRST_SHARE) / (1 + FIRST_SHARE * (meanTokens - 1))
    const slope = variance < LEAST_VARIANCE ? prior : (products / weights - meanTokens * meanTime) / variance
    const each = Math.min(Math.max(slope, prior / 10), meanTime / meanTokens)
    return { once: meanTime - each * meanTokens, each }
  }

  return {
    observe(count, durationMs) {
      // Longer ones would all count as waiting for something else.
      if (durationMs <= 0) return
      const before = seen.get(count) ?? 0
      seen.set(count, before + 1)
      if (before < FIRST_STEPS) return
      const { once, each } = line()
      const ms = weights === 0 ? durationMs : Math.min(durationMs, LONGEST * (once + each * count))
      weights = DECAY * weights + 1
      tokens = DECAY * tokens + count
      squares = DECAY * squares + count ** 2
      times = DECAY * times + ms
      products = DECAY * products + count * ms
    },
    costOfOneMore(count, sampled) {
      const { once, each } = line()
      return (each * sampled) / (once + each * count)
    },
  }
}
