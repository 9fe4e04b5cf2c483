import { hash } from 'node:crypto'
import { Hono } from 'hono'
import { AppError, toAppError } from '@copal/shared/errors.ts'
import { describeCall, type TextDescription } from '@copal/shared/wire/node-calls.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import type { WeightSet } from '../../contract/backend.ts'
import { MAX_SCORE_TOKENS } from '../../engine/engine-policy.ts'
import { requireModel } from '../generation/request-weights.ts'
import type { NodeServerDeps } from '../generation/node-server-deps.ts'
import { sum } from '../receipts/score-outcome.ts'
import type { ReadCall } from './route-deps.ts'

/** Largest body: 64 texts of 64 KB as JSON, with room for escapes. */
const MAX_DESCRIBE_BYTES = 8 * 1024 * 1024
/** Characters that give one token in all but unusual text; more of a text is not tokenised. */
const CHARACTERS_PER_TOKEN = 8
/** Texts of all calls that the engine holds at once. */
const MAX_CONCURRENT_TEXTS = 4
/** Texts of calls that passed their deadline whose descriptions are kept, so that the next try goes on from there. */
const MAX_KEPT = 256
/** Time limit of a call: a busy node describes some ten texts in it. */
const TIMEOUT_MS = 120_000
/** Calls that may wait; one more is rejected, because the gateway can ask another node or later. */
const MAX_CALLS = 8

/**
 * Creates the route of `POST /rpc/describe`: the mean last hidden state and the mean loss of texts under the dense weights,
 * which no swap moves. It runs in the share of scoring, in one pass a text. A call that is not complete in time fails with
 * `deadline_exceeded`; the same texts then continue where it stopped.
 */
export function describeTexts(
  deps: Pick<NodeServerDeps, 'model' | 'engine' | 'weights' | 'describeTimeoutMs'>,
  read: ReadCall,
): Hono {
  const { model, engine, weights, describeTimeoutMs: timeoutMs = TIMEOUT_MS } = deps
  const kept = new Map<string, TextDescription>()
  let calls = 0
  let running = 0
  const waiting: (() => void)[] = []

  /** Runs a task when fewer than the maximum number run. */
  async function inTurn<T>(task: () => Promise<T>): Promise<T> {
    if (running >= MAX_CONCURRENT_TEXTS) await new Promise<void>((resolve) => waiting.push(resolve))
    else running += 1
    try {
      return await task()
    } finally {
      // The next task takes the place of this one.
      const next = waiting.shift()
      if (next) next()
      else running -= 1
    }
  }

  async function describe(
    text: string,
    maxTokens: number,
    { dense, signal }: { dense: WeightSet; signal: AbortSignal },
  ): Promise<TextDescription> {
    signal.throwIfAborted()
    const key = keyOf(text, maxTokens)
    const known = kept.get(key)
    if (known) return known
    const readTokens = Math.min(maxTokens, MAX_SCORE_TOKENS, engine.policy.contextLength)
    const tokens = model.codec
      .encodeDocument(text.slice(0, readTokens * CHARACTERS_PER_TOKEN))
      .slice(0, readTokens)
    if (tokens.length === 0) return { tokens: 0, embedding: [], nllMean: null }
    const { embedding, nll } = await engine.describe({ weights: dense, tokens, lane: 'describe', signal })
    const nllMean = nll.length === 0 ? null : sum(nll) / nll.length
    if (!embedding.every(Number.isFinite) || !Number.isFinite(nllMean ?? 0))
      throw new AppError(
        'node_failed',
        'The hidden states or losses of the dense model are not finite numbers.',
      )
    const description = { tokens: tokens.length, embedding: [...embedding], nllMean }
    kept.set(key, description)
    for (const oldest of kept.keys()) {
      if (kept.size <= MAX_KEPT) break
      kept.delete(oldest)
    }
    return description
  }

  return new Hono().post('/', async (c) => {
    const call = validate(describeCall, await read(c.req.raw, MAX_DESCRIBE_BYTES))
    requireModel({ model }, call.model)
    const dense = weights(0)
    if (!dense) {
      const message =
        'The dense weights are not loaded on this node, so it cannot describe texts. Try again in 5 s, or raise ' +
        'COPAL_WEIGHT_BYTES if its memory does not suffice for them.'
      throw new AppError('no_node_available', message, { retryAfterS: 5 })
    }
    if (calls >= MAX_CALLS) {
      const message = `${MAX_CALLS} calls wait to be described. Try again in 5 s.`
      throw new AppError('overloaded', message, { retryAfterS: 5 })
    }
    calls += 1
    const release = engine.hold(dense)
    const failed = new AbortController()
    const deadline = AbortSignal.timeout(timeoutMs)
    const signal = AbortSignal.any([failed.signal, deadline, c.req.raw.signal])
    try {
      const described = await Promise.all(
        call.texts.map((text) => inTurn(() => describe(text, call.maxTokens, { dense, signal }))),
      )
      for (const text of call.texts) kept.delete(keyOf(text, call.maxTokens))
      return c.json({ texts: described })
    } catch (thrown) {
      if (!deadline.aborted) throw thrown
      const message = `The texts were not described within ${timeoutMs / 1000} s. Send fewer, or try again later.`
      throw new AppError('deadline_exceeded', message, { cause: toAppError(thrown) })
    } finally {
      failed.abort()
      release()
      calls -= 1
    }
  })
}

function keyOf(text: string, maxTokens: number): string {
  return hash('sha256', `${maxTokens}:${text}`, 'base64')
}
