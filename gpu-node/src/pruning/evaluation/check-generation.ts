import type { GenerationCheck } from '@copal/shared/wire/adaptation-jobs.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'
import type { ScoringOptions } from './evaluate-windows.ts'

/** Openings of ordinary text, which a model continues for a while. */
export const GENERATION_PROMPTS = [
  'The history of the city began when',
  'Water is important for life because',
  'She opened the door of the old house and',
  'The main difference between the two methods is',
] as const
/** Maximum tokens that are generated for each prompt. */
export const GENERATION_TOKENS = 48
/**
 * Number of log-probabilities by which the entropy of a distribution is computed. The probability of all other tokens is
 * assumed to be spread evenly over them, so the result is an upper bound of the entropy.
 */
const TOP_LOGPROBS = 256
/** Sequence ids of the generated texts; sequences of windows have smaller ones. */
const FIRST_SEQUENCE = 1_000_000_000

/** Greedy, without penalties. */
const GREEDY = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  seed: 0,
  topLogprobs: TOP_LOGPROBS,
}

/** The next token of one sequence, with the prompt or the token before it. */
type GenerationWork = { sequence: number; tokens: Int32Array; position: number } & (
  | { output: 'token'; sampler?: typeof GREEDY & { promptTokens: number } }
  | { output: 'nll'; targets: Int32Array }
)

interface GeneratedToken {
  token: number
  logprob: number
  top: readonly { token: number; logprob: number }[]
}

/** The part of a serving backend that the check uses. */
export interface GeneratingBackend<Weights> {
  step(plan: { weights: Weights; work: readonly GenerationWork[]; drop: readonly number[] }): Promise<{
    outputs: readonly (
      | ({ kind: 'token' } & GeneratedToken)
      | { kind: 'nll'; nll: Float32Array }
      | { kind: 'none' | 'hidden_sum' | 'failed' }
    )[]
  }>
}

/** The part of a model that generation uses. */
interface GeneratingModel {
  config: Pick<LlamaConfig, 'contextLength' | 'vocabSize' | 'eosTokenIds'>
  codec: Pick<TextCodec, 'encodeDocument'>
}

/** A prompt and what was generated for it. */
interface Generated {
  sequence: number
  prompt: Int32Array
  tokens: number[]
  /** Entropy of the distribution of each token, nats. */
  entropies: number[]
}

/**
 * Generates greedily from {@link GENERATION_PROMPTS} with loaded weights, all at once, and measures what tells noise from text. A
 * text ends at {@link GENERATION_TOKENS} tokens or at the model's end token, and all end at logits that are not numbers.
 *
 * @throws AppError as `Backend.step`; the reason of `signal`
 */
export async function checkGeneration<Weights>(
  backend: GeneratingBackend<Weights>,
  weights: Weights,
  { config, codec }: GeneratingModel,
  { pause, signal }: Pick<ScoringOptions, 'pause' | 'signal'> = {},
): Promise<GenerationCheck> {
  const longest = Math.max(1, config.contextLength - GENERATION_TOKENS)
  const texts = GENERATION_PROMPTS.map((prompt, index): Generated => {
    const encoded = codec.encodeDocument(prompt).slice(0, longest)
    return { sequence: FIRST_SEQUENCE + index, prompt: Int32Array.from(encoded), tokens: [], entropies: [] }
  })
  let finite = true
  let running = texts
  while (running.length > 0) {
    signal?.throwIfAborted()
    const next = await nextTokens(backend, weights, running, config.vocabSize)
    if (!next?.every(hasFiniteLogprobs)) finite = false
    if (next === undefined) break
    for (const [index, { tokens, entropies }] of running.entries()) {
      const { token, top } = next[index]!
      tokens.push(token)
      entropies.push(entropyOf(top, config.vocabSize))
    }
    running = running.filter(
      ({ tokens }) => tokens.length < GENERATION_TOKENS && !config.eosTokenIds.includes(tokens.at(-1) ?? -1),
    )
    await pause?.(signal)
  }
  const entropies = texts.flatMap((text) => text.entropies)
  const entropy = entropies.reduce((sum, value) => sum + value, 0) / entropies.length
  return {
    finite,
    tokens: texts.reduce((sum, { tokens }) => sum + tokens.length, 0),
    repetition: repeatedBigrams(texts.map(({ tokens }) => tokens)),
    entropy: Number.isFinite(entropy) ? entropy : null,
  }
}

/** Generates the next token of each text. Returns nothing if the logits are not numbers, which samplers reject. */
async function nextTokens<Weights>(
  backend: GeneratingBackend<Weights>,
  weights: Weights,
  texts: readonly Generated[],
  vocabSize: number,
): Promise<GeneratedToken[] | undefined> {
  const topLogprobs = Math.min(TOP_LOGPROBS, vocabSize)
  const work = texts.map(({ sequence, prompt, tokens }): GenerationWork => {
    const last = tokens.at(-1)
    if (last !== undefined) {
      const position = prompt.length + tokens.length - 1
      return { sequence, tokens: Int32Array.of(last), position, output: 'token' }
    }
    const sampler = { ...GREEDY, topLogprobs, promptTokens: prompt.length }
    return { sequence, tokens: prompt, position: 0, output: 'token', sampler }
  })
  const { outputs } = await backend.step({ weights, work, drop: [] })
  if (outputs.some(({ kind }) => kind === 'failed')) return undefined
  return work.map((_, index) => tokenOf(outputs[index]))
}

function hasFiniteLogprobs({ logprob, top }: GeneratedToken): boolean {
  return Number.isFinite(logprob) && top.every((each) => Number.isFinite(each.logprob))
}

function tokenOf(output: { kind: string } | undefined): GeneratedToken {
  if (output?.kind !== 'token') throw new RangeError('the backend did not generate a token')
  return output as { kind: 'token' } & GeneratedToken
}

/**
 * Returns the entropy of a distribution in nats, from its most probable tokens; the remaining probability is spread evenly
 * over the other tokens of the vocabulary.
 */
export function entropyOf(top: readonly { logprob: number }[], vocabSize: number): number {
  let entropy = 0
  let rest = 1
  for (const { logprob } of top) {
    const probability = Math.exp(logprob)
    if (probability !== 0) entropy -= probability * logprob
    rest -= probability
  }
  const others = vocabSize - top.length
  if (others > 0 && rest > 0) entropy -= rest * Math.log(rest / others)
  return entropy
}

/** Returns the fraction of the bigrams of each text that had occurred before in the same text, over all texts. */
export function repeatedBigrams(texts: readonly (readonly number[])[]): number {
  let repeated = 0
  let total = 0
  for (const tokens of texts) {
    const seen = new Set<string>()
    for (let i = 1; i < tokens.length; i++) {
      const bigram = `${tokens[i - 1]} ${tokens[i]}`
      if (seen.has(bigram)) repeated++
      seen.add(bigram)
      total++
    }
  }
  return total === 0 ? 0 : repeated / total
}
