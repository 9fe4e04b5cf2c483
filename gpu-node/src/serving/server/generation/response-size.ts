import { AppError } from '@copal/shared/errors.ts'
import { MAX_RESPONSE_BYTES } from '@copal/shared/wire/node-calls.ts'
import type { ChoicesPlan } from './completion-choices.ts'

/** Typical least size of one log-probability of a chat: `{"token":" the","logprob":-0.1234567890123456,…}`. */
export const CHAT_LOGPROB_BYTES = 64
/** Typical least size of one log-probability of a completion: `" the":-0.1234567890123456,`. */
export const COMPLETION_LOGPROB_BYTES = 24
/** Size of one number of an embedding: an f32 written with the digits of an f64. */
const NUMBER_BYTES = 16

const LIMIT = `${MAX_RESPONSE_BYTES / (1024 * 1024)} MiB, the limit of one response`

/**
 * Rejects a request for log-probabilities whose response would be too large if it became as long as requested. A request
 * without a token limit passes, because few outputs fill the context: see {@link requireCollectedFit}.
 *
 * @param param the field that requests the alternatives
 * @throws AppError `invalid_request` that says how many tokens fit
 */
export function requireLogprobsFit(
  { prompts, choicesPerPrompt, maxTokens, sampling, promptLogprobs = -1 }: ChoicesPlan,
  contextLength: number,
  logprobBytes: number,
  param: string,
): void {
  if (maxTokens === null || sampling.topLogprobs < 0) return
  const tokens = prompts.reduce(
    (sum, { length }) =>
      sum +
      choicesPerPrompt * (Math.min(maxTokens, contextLength - length) + (promptLogprobs >= 0 ? length : 0)),
    0,
  )
  const fittingTokens = Math.floor(MAX_RESPONSE_BYTES / (logprobBytes * (1 + sampling.topLogprobs)))
  if (tokens <= fittingTokens) return
  const message =
    `With ${sampling.topLogprobs} alternatives to each of its ${tokens} tokens, over all choices, the response could be ` +
    `larger than ${LIMIT}: ${fittingTokens} tokens fit. Stream it, or ask for fewer choices, tokens or alternatives.`
  throw new AppError('invalid_request', message, { param })
}

/**
 * Rejects log-probabilities that a response has by now. A request without a token limit may get hundreds of megabytes of them.
 *
 * @param logprobs those of its tokens and of their alternatives
 * @throws AppError `invalid_request`
 */
export function requireCollectedFit(logprobs: number): void {
  if (logprobs * COMPLETION_LOGPROB_BYTES <= MAX_RESPONSE_BYTES) return
  const message = `The log-probabilities are larger than ${LIMIT}. Stream it, or ask for fewer choices, tokens or alternatives.`
  throw new AppError('invalid_request', message)
}

/**
 * Rejects texts whose embeddings are too large for one response.
 *
 * @throws AppError `invalid_request` that says how many fit
 */
export function requireEmbeddingsFit(texts: number, hiddenSize: number, format: 'float' | 'base64'): void {
  const textBytes = format === 'float' ? hiddenSize * NUMBER_BYTES : Math.ceil((hiddenSize * 4) / 3) * 4
  const fittingTexts = Math.floor(MAX_RESPONSE_BYTES / textBytes)
  if (texts <= fittingTexts) return
  const remedy = format === 'float' ? ", or for 'encoding_format': 'base64'" : ''
  const message = `The embeddings of ${texts} texts are larger than ${LIMIT}. Ask for at most ${fittingTexts} in one request${remedy}.`
  throw new AppError('invalid_request', message, { param: 'input' })
}
