import type { SamplerSpec } from '../contract/backend.ts'

/** The biases and penalties of one sequence. */
export interface LogitAdjuster {
  /** Records the tokens from `position` on, prompt and sampled tokens alike; positions recorded before are skipped. */
  observe(tokens: Int32Array, position: number): void
  /** Adjusts the logits of a vocabulary, f32 `[vocab]`, in place. */
  adjustAll(logits: Float32Array): void
  /** Returns the adjusted logit of a token, rounded to f32 as {@link adjustAll} does. */
  adjust(token: number, logit: number): number
  /** Lists the tokens whose logits are adjusted once these tokens were generated as well; undefined if they are more than `max`. */
  listAfter(tokens: Int32Array, max: number): AdjustedTokens | undefined
}

/** The tokens of a row of logits that are adjusted, and what a device needs to estimate their adjusted logits. */
export interface AdjustedTokens {
  /** In ascending order. */
  tokens: Int32Array
  /** For each of them, added first. */
  biases: Float32Array
  /** For each of them: divides positive logits, multiplies others. */
  factors: Float32Array
  /** For each of them, subtracted last. */
  deductions: Float32Array
}

/** Creates the adjuster of a sequence; undefined if it has neither biases nor penalties. */
export function createLogitAdjuster(spec: SamplerSpec): LogitAdjuster | undefined {
  const { presencePenalty, frequencyPenalty, repetitionPenalty, promptTokens } = spec
  const penalisesPrompt = repetitionPenalty !== 1
  const isPenalised = penalisesPrompt || presencePenalty !== 0 || frequencyPenalty !== 0
  const biases = Map.groupBy(spec.logitBias ?? [], ({ token }) => token)
  if (!isPenalised && biases.size === 0) return undefined
  /** How often each token was generated; 0 for tokens that are only in the prompt. */
  const generated = new Map<number, number>()
  const adjusted = new Set(biases.keys())
  /** The members of `adjusted` in order; undefined if it has changed. */
  let sorted: Int32Array | undefined
  let seen = 0

  const deductionOf = (count: number) => count * frequencyPenalty + (count > 0 ? presencePenalty : 0)
  const adjust = (token: number, logit: number): number => {
    for (const { bias } of biases.get(token) ?? []) logit = Math.fround(logit + bias)
    const count = generated.get(token)
    if (count === undefined) return logit
    logit = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty
    return Math.fround(logit - deductionOf(count))
  }

  return {
    observe(tokens, position) {
      if (!isPenalised) return
      for (const [offset, token] of tokens.entries()) {
        if (position + offset < seen) continue
        const isOutput = position + offset >= promptTokens
        if (!isOutput && !penalisesPrompt) continue
        generated.set(token, (generated.get(token) ?? 0) + (isOutput ? 1 : 0))
        if (!adjusted.has(token)) sorted = undefined
        adjusted.add(token)
      }
      seen = Math.max(seen, position + tokens.length)
    },

    adjustAll(logits) {
      for (const token of adjusted) logits[token] = adjust(token, logits[token] as number)
    },

    adjust,

    listAfter(tokens, max) {
      const further = new Map<number, number>()
      if (isPenalised) for (const token of tokens) further.set(token, (further.get(token) ?? 0) + 1)
      const added = [...further.keys()].filter((token) => !adjusted.has(token))
      if (adjusted.size + added.length > max) return undefined
      sorted ??= Int32Array.from(adjusted).sort()
      const listed = added.length === 0 ? sorted : Int32Array.from([...sorted, ...added]).sort()
      const list: AdjustedTokens = {
        tokens: listed,
        biases: new Float32Array(listed.length),
        factors: new Float32Array(listed.length).fill(1),
        deductions: new Float32Array(listed.length),
      }
      for (const [index, token] of listed.entries()) {
        for (const { bias } of biases.get(token) ?? []) list.biases[index] = (list.biases[index] ?? 0) + bias
        const [before, after] = [generated.get(token), further.get(token)]
        if (before === undefined && after === undefined) continue
        list.factors[index] = repetitionPenalty
        list.deductions[index] = deductionOf((before ?? 0) + (after ?? 0))
      }
      return list
    },
  }
}
