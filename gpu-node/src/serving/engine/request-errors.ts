import { AppError } from '@copal/shared/errors.ts'

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

/** The prompt alone fills the context. */
export function contextExceeded(
  tokens: number,
  contextLength: number,
  precision: 'exactly' | 'at least' = 'exactly',
): AppError {
  const has = precision === 'exactly' ? tokens : `at least ${tokens}`
  return new AppError(
    'context_length_exceeded',
    `This model's context length is ${contextLength} tokens and the prompt has ${has}; the answer needs at least one. ` +
      'Shorten the prompt.',
  )
}

/** A text that is only read, not answered, is longer than the context. */
export function textTooLong(tokens: number, contextLength: number): AppError {
  return new AppError(
    'context_length_exceeded',
    `This model's context length is ${contextLength} tokens and the text has ${tokens}. Shorten it.`,
  )
}

/** A bias is of a token that there is not. */
export function checkBiases(biases: readonly { token: number }[], vocabSize: number): void {
  const unknown = biases.find(({ token }) => token >= vocabSize)
  if (!unknown) return
  throw new AppError(
    'invalid_request',
    `Invalid 'logit_bias': token ${unknown.token} does not exist. This model has token ids from 0 to ${vocabSize - 1}.`,
    { param: `logit_bias.${unknown.token}` },
  )
}

/** What an error makes of the request that it ends: left by its client, refused as it is, or failed. */
export function finishReasonOf({ code, status, retryable }: AppError): 'cancelled' | 'refused' | 'error' {
  if (code === 'client_closed_request') return 'cancelled'
  return status < 500 && !retryable ? 'refused' : 'error'
}

/** The request's own deadline passed. */
export function deadlineExceeded(deadlineMs: number | undefined): AppError {
  return new AppError('deadline_exceeded', `The request did not finish within ${deadlineMs} ms.`)
}

/** A step was rejected for a reason that the backend did not explain. */
export function stepError(cause: unknown): AppError {
  return new AppError('node_failed', 'The node failed while it computed this request. Try again.', {
    cause,
  })
}

/** Everything is refused from now on. */
export function shuttingDown(): AppError {
  return new AppError('node_failed', 'This node is shutting down. Try again.')
}

/** The weights a request was bound to are gone. */
export function weightsLost(version: number, cause: Error | undefined): AppError {
  const what = cause ? 'failed while they ran' : 'were released'
  return new AppError('node_failed', `The weights of mask version ${version} ${what}. Try again.`, { cause })
}

/** The queue of requests, or of texts to score, is full. */
export function overloaded(what: string, limit: number, waitMs: number): AppError {
  return new AppError('overloaded', `This node already has ${limit} ${what}. Try again later.`, {
    retryAfterS: Math.min(60, Math.max(1, Math.ceil(waitMs / 1000))),
  })
}
