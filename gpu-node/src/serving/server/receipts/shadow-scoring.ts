import type { ShadowScore } from '@copal/shared/wire/heartbeat.ts'
import type { WeightSet } from '../../contract/backend.ts'
import type { Engine } from '../../engine/engine-api.ts'
import type { GenerationOutcome } from '../../engine/generation-request.ts'
import { reasonOf, type Log } from '../../../platform/log.ts'
import { gatewayFields, type ReceiptCall } from './receipt-issuer.ts'
import { failureOutcome, sum } from './score-outcome.ts'
import { createScorePace } from './score-pace.ts'

/** Most tokens scored at the end of a prompt, and at the start of its output. */
const MAX_PART_TOKENS = 256
/** Fewest tokens that are scored; fewer say too little. */
const MIN_TOKENS = 16
/** Calls that may wait to be scored. Further calls are skipped, because any share of requests suffices. */
const MAX_WAITING = 4
/** Scores that may wait for a heartbeat; beyond it the oldest are dropped. */
const MAX_UNREPORTED = 256

/** A call whose output is scored under trial weights. */
export interface ShadowedCall extends Pick<ReceiptCall, 'account' | 'attestation'> {
  requestId: string
  model: string
  domain: string
  /** Version of the trial weights. */
  shadowVersion: number
}

/** Scores prompts and outputs under trial weights. */
export interface ShadowScorer {
  /**
   * Scores the prompt and the output of an ended generation, under the weights that generated it and under the trial
   * weights. Calls are scored in turn, in the share of scoring. Returns at once; a failed scoring gives no score.
   */
  score(call: ShadowedCall, outcome: GenerationOutcome): void
  /** Returns the scores that the gateway has not acknowledged, oldest first. */
  pendingScores(): ShadowScore[]
  /** Removes scores that the gateway received. */
  acknowledge(received: readonly ShadowScore[]): void
  /** Stops scoring, because the node stops. Any share of calls suffices, so that those that wait are not missed. */
  close(): void
}

/** Parts of a {@link ShadowScorer}. */
export interface ShadowDeps {
  engine: Pick<Engine, 'score'>
  /** Returns the weight set of a version, if it is loaded. */
  weights: (version: number) => WeightSet | null
  /** Returns whether a set can still score: a trial ends, and a mask is replaced, while outputs wait. */
  isServing: (weights: WeightSet) => boolean
  log: Log
  scoreTimeoutMs: number
}

/** Creates a scorer without scores. */
export function createShadowScorer(deps: ShadowDeps): ShadowScorer {
  let waiting = 0
  let turn: Promise<void> = Promise.resolve()
  let unreported: ShadowScore[] = []
  const closing = new AbortController()
  const pace = createScorePace(MAX_PART_TOKENS, deps.scoreTimeoutMs)

  async function run(
    call: ShadowedCall,
    generatedBy: WeightSet,
    whole: GenerationOutcome['text'],
  ): Promise<void> {
    const startedMs = performance.now()
    if (closing.signal.aborted) return
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(deps.scoreTimeoutMs)])
    const text = scoredText(whole, pace.windowTokens(deps.scoreTimeoutMs)!)
    const { tokens } = text
    try {
      const trial = deps.weights(call.shadowVersion)
      if (!trial || !deps.isServing(generatedBy)) return
      const nll = await deps.engine.score({ weights: generatedBy, tokens, lane: 'shadow', signal })
      if (!deps.isServing(trial)) return
      const nllShadow = await deps.engine.score({ weights: trial, tokens, lane: 'shadow', signal })
      pace.record(tokens.length, performance.now() - startedMs, true)
      const { requestId, model, domain, shadowVersion } = call
      const score = {
        requestId,
        ...gatewayFields(call),
        model,
        domain,
        maskVersion: generatedBy.version,
        shadowVersion,
        ...compare(text, nll, nllShadow),
      }
      const sums = [score.prompt, score.answer].flatMap((part) => [part.nll, part.nllShadow])
      if (!sums.every(Number.isFinite)) throw new Error('its negative log-likelihood is not finite')
      unreported = [...unreported, score].slice(-MAX_UNREPORTED)
    } catch (error) {
      if (signal.aborted) return pace.record(tokens.length, performance.now() - startedMs, false)
      // Under load some calls are not scored, by design. Other failures are logged.
      if (failureOutcome(error) !== 'failed') return
      deps.log.warn('an output was not scored under the trial mask', {
        version: call.shadowVersion,
        reason: reasonOf(error),
      })
    }
  }

  return {
    score(call, { finishReason, weights, text }) {
      const isComplete = finishReason === 'stop' || finishReason === 'length'
      if (!isComplete || !weights || weights.version === call.shadowVersion || waiting >= MAX_WAITING) return
      if (scoredText(text, MAX_PART_TOKENS).tokens.length <= MIN_TOKENS) return
      waiting += 1
      turn = turn.then(() => run(call, weights, text)).finally(() => (waiting -= 1))
    },
    pendingScores: () => unreported,
    acknowledge(received) {
      const ids = new Set(received.map(({ requestId }) => requestId))
      unreported = unreported.filter(({ requestId }) => !ids.has(requestId))
    },
    close: () => closing.abort(),
  }
}

/** The scored tokens: the end of a prompt and the start of its output. */
interface ScoredText {
  tokens: readonly number[]
  promptTokens: number
}

function scoredText({ tokens, promptTokens }: GenerationOutcome['text'], partTokens: number): ScoredText {
  const from = Math.max(0, promptTokens - partTokens)
  return {
    tokens: tokens.slice(from, promptTokens + partTokens),
    promptTokens: promptTokens - from,
  }
}

/** Sums the scores of prompt and output. The first token of all has no score, because nothing precedes it. */
function compare(
  { promptTokens, tokens }: ScoredText,
  nll: Float32Array,
  nllShadow: Float32Array,
): Pick<ShadowScore, 'prompt' | 'answer'> {
  const part = (from: number, to: number) => ({
    tokens: to - from,
    nll: sum(nll.subarray(from, to)),
    nllShadow: sum(nllShadow.subarray(from, to)),
  })
  return { prompt: part(0, promptTokens - 1), answer: part(promptTokens - 1, tokens.length - 1) }
}
