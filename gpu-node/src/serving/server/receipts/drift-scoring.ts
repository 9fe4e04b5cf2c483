import type { Receipt, ScoringOutcome } from '@copal/shared/wire/receipts.ts'
import type { WeightSet } from '../../contract/backend.ts'
import type { Engine } from '../../engine/engine-api.ts'
import { MAX_SCORE_TOKENS } from '../../engine/engine-policy.ts'
import { reasonOf, type Log } from '../../../platform/log.ts'
import type { TextCodec } from '../../../model/tokenizer/text-codec.ts'
import type { ClientText } from '../prompts/client-text.ts'
import { failureOutcome } from './score-outcome.ts'
import { createScorePace } from './score-pace.ts'
import { drawWindow, type ScoreWindow } from './score-window.ts'

/** Fewest tokens of client text that are scored; fewer say too little about drift. */
const MIN_TOKENS = 16
/** Most tokens of a text that are scored. Drift is a mean over many texts, so a part of each suffices. */
const MAX_WINDOW = MAX_SCORE_TOKENS / 2
/** Most texts that wait. Each holds back its receipt, and more of them would only wait longer. */
const MAX_WAITING = 8

/** Parts that drift scoring needs. */
export interface DriftDeps {
  engine: Pick<Engine, 'score' | 'policy'>
  codec: Pick<TextCodec, 'encodeDocument'>
  denseWeights: () => WeightSet | null
  /** Whether requests can still start on the weights; those of a replaced mask are not kept for scoring. */
  isServing: (weights: WeightSet) => boolean
  log: Log
  /** Time from the end of a request to that of its scoring. */
  scoreTimeoutMs: number
}

/** The fields of a receipt that scoring decides. */
export type DriftScore = Required<Pick<Receipt, 'drift' | 'scoring'>>

/** Scores the client's own text of sampled requests. */
export interface DriftScorer {
  /**
   * Scores a text under the weights that generated the response, and under dense weights. One text at a time is scored,
   * the oldest first.
   *
   * Only the client's new text is scored, with the prompt before it as context: generated text would favour the weights
   * that generated it, the template's tokens say nothing about the domain, and earlier messages were scored with the
   * requests that brought them.
   *
   * @param text returns the text; it may fail
   * @returns at the latest after `scoreTimeoutMs`. `drift` is of the same tokens under both weights
   */
  score(requestId: string, weights: WeightSet, text: () => Promise<ClientText>): Promise<DriftScore>
  /** Ends the scoring of all texts, and of those that come later, for want of time. */
  close(): void
}

interface WaitingText {
  readonly requestId: string
  readonly weights: WeightSet
  readonly text: ClientText
  readonly deadlineMs: number
  /** Aborted at the deadline. */
  readonly abort: AbortController
  readonly end: (score: DriftScore) => void
}

/**
 * Creates an idle scorer.
 *
 * When too many texts wait, the oldest one is left out, whatever its content and length. So the scored texts are a fair
 * sample of each moment; moments of high load have fewer. Receipts name the outcome.
 */
export function createDriftScorer(deps: DriftDeps): DriftScorer {
  const { engine, log, scoreTimeoutMs } = deps
  const maxTokens = Math.min(MAX_SCORE_TOKENS, engine.policy.contextLength)
  const pace = createScorePace(Math.min(MAX_WINDOW, maxTokens >> 1), scoreTimeoutMs)
  const bos = deps.codec.encodeDocument('')
  const waiting: WaitingText[] = []
  let scoring: WaitingText | undefined
  let isClosed = false
  let wasDenseLoaded = true

  async function scoreWaiting(): Promise<void> {
    if (scoring) return
    for (scoring = waiting.shift(); scoring; scoring = waiting.shift()) scoring.end(await scoreText(scoring))
  }

  async function scoreText(item: WaitingText): Promise<DriftScore> {
    if (!deps.isServing(item.weights)) return unscored('evicted')
    const startedMs = performance.now()
    const windowTokens = pace.windowTokens(item.deadlineMs - startedMs)
    if (windowTokens === null) return unscored('budget')
    const { requestId, weights, text, abort } = item
    const window = drawWindow(text, { requestId, windowTokens, minTokens: MIN_TOKENS, maxTokens, bos })
    if (!window) return unscored('too_short')
    const dense = weights.version === 0 ? weights : denseWeights()
    if (!dense) return unscored('failed')
    try {
      const nllMasked = await nllOf(weights, window, abort.signal)
      if (!deps.isServing(dense)) return unscored('evicted')
      const nllDense = dense === weights ? nllMasked : await nllOf(dense, window, abort.signal)
      pace.record(window.tokens.length, performance.now() - startedMs, true)
      if (!Number.isFinite(nllMasked) || !Number.isFinite(nllDense))
        throw new Error(`its negative log-likelihood is ${nllMasked} masked and ${nllDense} dense`)
      return { drift: { tokens: window.scored.length, nllMasked, nllDense }, scoring: 'scored' }
    } catch (error) {
      if (abort.signal.aborted) {
        pace.record(window.tokens.length, performance.now() - startedMs, false)
        return unscored('budget')
      }
      return failed(requestId, weights, error)
    }
  }

  /** Returns the dense weights. Their loss is logged once, because no text is scored until they are loaded again. */
  function denseWeights(): WeightSet | null {
    const dense = deps.denseWeights()
    if (!dense && wasDenseLoaded)
      log.warn(
        'sampled texts are not scored, because the dense weights are not loaded. If memory does not suffice for them, ' +
          'raise COPAL_WEIGHT_BYTES',
      )
    wasDenseLoaded = dense !== null
    return dense
  }

  /** Returns the score of a text whose scoring threw an error, which is logged unless load is the reason. */
  function failed(requestId: string, { version }: WeightSet, error: unknown): DriftScore {
    const outcome = failureOutcome(error)
    if (outcome === 'failed')
      log.warn('a sampled text was not scored', { requestId, version, reason: reasonOf(error) })
    return unscored(outcome)
  }

  /** Returns the sum over the scored tokens of a window, nats. */
  async function nllOf(weights: WeightSet, { tokens, scored }: ScoreWindow, signal: AbortSignal) {
    const first = scored[0]!
    const nll = await engine.score({ weights, tokens, lane: 'drift', first, signal })
    return scored.reduce((sum, position) => sum + nll[position - first]!, 0)
  }

  function leaveOut(item: WaitingText, outcome: ScoringOutcome): void {
    const at = waiting.indexOf(item)
    if (at < 0) return item.abort.abort()
    waiting.splice(at, 1)
    item.end(unscored(outcome))
  }

  return {
    async score(requestId, weights, readText) {
      let text: ClientText
      try {
        text = await readText()
      } catch (error) {
        return failed(requestId, weights, error)
      }
      if (text.own.length < MIN_TOKENS) return unscored('too_short')
      if (isClosed) return unscored('budget')
      const { promise, resolve: end } = Promise.withResolvers<DriftScore>()
      const deadlineMs = performance.now() + scoreTimeoutMs
      const item = { requestId, weights, text, deadlineMs, abort: new AbortController(), end }
      const timer = setTimeout(() => leaveOut(item, 'budget'), scoreTimeoutMs)
      waiting.push(item)
      void scoreWaiting()
      if (waiting.length > MAX_WAITING) leaveOut(waiting[0]!, 'evicted')
      try {
        return await promise
      } finally {
        clearTimeout(timer)
      }
    },
    close() {
      isClosed = true
      scoring?.abort.abort()
      for (const { end } of waiting.splice(0)) end(unscored('budget'))
    },
  }
}

function unscored(scoring: ScoringOutcome): DriftScore {
  return { drift: null, scoring }
}
