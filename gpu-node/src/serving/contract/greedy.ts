import type { SamplerSpec } from './backend.ts'

/** Greedy sampling without penalties or log-probabilities; vary it by spreading. */
export const GREEDY: Omit<SamplerSpec, 'promptTokens'> = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  seed: 0,
  topLogprobs: -1,
}
