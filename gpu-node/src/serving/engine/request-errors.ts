import { AppError } from '@copal/shared/errors.ts'
import { retryAfterSeconds } from '@copal/shared/retry-after.ts'

/** @throws AppError `invalid_request` for an empty list or a token that the model does not have */
export function checkTokens(tokens: readonly number[], vocabSize: number, param: string): void {
  if (tokens.length === 0)
    throw new AppError('invalid_request', 'The prompt is empty. At least one token is needed.', { param })
  const index = tokens.findIndex((token) => !(Number.isInteger(token) && token >= 0 && token < vocabSize))
  if (index < 0) return
  throw new AppError(
    'invalid_request',
    `Token ${tokens[index]} does not exist. This model has token ids from 0 to ${vocabSize - 1}.`,
    { param: `${param}[${index}]` },
  )
}

/** Creates the error for a prompt that fills the context by itself. */
export function contextExceeded(tokens: number, contextLength: number): AppError {
  return new AppError(
    'context_length_exceeded',
    `${contextOf(contextLength)} and the prompt has ${tokens}; the output needs at least one. Shorten the prompt.`,
  )
}

/** Creates the error for a text that is longer than the context, also of a prompt. */
export function textTooLong(
  tokens: number,
  contextLength: number,
  precision: 'exactly' | 'at least' = 'exactly',
): AppError {
  const has = precision === 'exactly' ? tokens : `at least ${tokens}`
  return new AppError(
    'context_length_exceeded',
    `${contextOf(contextLength)} and the text has ${has}. Shorten it.`,
  )
}

/** Begins as the message of OpenAI, by which some clients recognise the error. */
function contextOf(contextLength: number): string {
  return `This model's maximum context length is ${contextLength} tokens`
}

/** @throws AppError `invalid_request` for a bias on a token that the model does not have */
export function checkBiases(biases: readonly { token: number }[], vocabSize: number): void {
  const unknown = biases.find(({ token }) => token >= vocabSize)
  if (!unknown) return
  throw new AppError(
    'invalid_request',
    `Invalid 'logit_bias': token ${unknown.token} does not exist. This model has token ids from 0 to ${vocabSize - 1}.`,
    { param: `logit_bias.${unknown.token}` },
  )
}

/** Maps the error that ended a request to a finish reason: cancelled by its client, rejected, or failed. */
export function finishReasonOf({ code, status, retryable }: AppError): 'cancelled' | 'refused' | 'error' {
  if (code === 'client_closed_request') return 'cancelled'
  return status < 500 && !retryable ? 'refused' : 'error'
}

/** Creates the error for a request whose own deadline passed. */
export function deadlineExceeded(deadlineMs: number | undefined): AppError {
  return new AppError('deadline_exceeded', `The request did not finish within ${deadlineMs} ms.`)
}

/** Creates the error for a step that the backend rejected without an explanation. */
export function stepError(cause: unknown): AppError {
  return new AppError('node_failed', 'The node failed while it computed this request. Try again.', {
    cause,
  })
}

/** The error for requests to a node that is shutting down. Its log has one line for all of them. */
export class ShuttingDownError extends AppError {
  constructor() {
    super('node_failed', 'This node is shutting down. Try again.')
  }
}

/** Creates the error for a request whose weights are gone. */
export function weightsLost(version: number, cause: Error | undefined): AppError {
  const what = cause ? 'failed while they ran' : 'were released'
  return new AppError('node_failed', `The weights of mask version ${version} ${what}. Try again.`, { cause })
}

/** Creates the error for requests that wait for weights which were lost and cannot be loaded again. */
export function noWeights(cause: unknown): AppError {
  const message = 'The weights of this node were lost and cannot be loaded again now. Try again.'
  return new AppError('node_failed', message, { cause })
}

/** Creates the error for a full queue of requests or of texts to score. */
export function overloaded(what: string, limit: number, waitMs: number): AppError {
  const retryAfterS = retryAfterSeconds(waitMs)
  const message = `This node already has ${limit} ${what}. Try again in ${retryAfterS} s.`
  return new AppError('overloaded', message, { retryAfterS })
}
