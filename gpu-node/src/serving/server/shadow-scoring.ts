import type { ShadowScore } from '@copal/shared/wire/heartbeat.ts'
import type { WeightSet } from '../contract/backend.ts'
import type { Engine } from '../engine/engine-api.ts'
import type { GenerationOutcome } from '../engine/generation-request.ts'
import { reasonOf, type Log } from '../../platform/log.ts'
import { gatewayFields, type ReceiptCall } from './receipt-desk.ts'
import { isExpectedScoringFailure, sum } from './score-outcome.ts'

/** Of a prompt its end is scored, of an answer its beginning: differences show in as many tokens. */
const MAX_PROMPT_TOKENS = 256
const MAX_ANSWER_TOKENS = 256
/** Fewer say too little. */
const MIN_TOKENS = 16
/** Answers that wait to be scored; what is more is left out, since any share of requests will do. */
const MAX_WAITING = 4
/** Scores that wait for a heartbeat; the oldest are dropped. */
const MAX_UNREPORTED = 256

/** A call whose answer is to be scored. */
export interface ShadowedCall extends Pick<ReceiptCall, 'account' | 'attestation'> {
  requestId: string
  model: string
  domain: string
  /** The weights on trial. */
  shadowVersion: number
}

/** Scores what was answered under weights on trial too. */
export interface ShadowScorer {
  /**
   * After a generation ended: its prompt and its answer are scored, one after another, at low priority, under the weights
   * that answered and under those on trial. Nobody waits for that, and nothing is told of what fails.
   */
  score(call: ShadowedCall, outcome: GenerationOutcome): void
  /** What is there to be told, oldest first. */
  pendingScores(): ShadowScore[]
  /** These were told. */
  acknowledge(told: readonly ShadowScore[]): void
}

/** What scoring needs. */
export interface ShadowDeps {
  engine: Pick<Engine, 'score'>
  /** The weight set of a version that is held now. */
  weights: (version: number) => WeightSet | null
  log: Log
  scoreTimeoutMs: number
}

/** A desk without scores. */
export function createShadowScorer(deps: ShadowDeps): ShadowScorer {
  let waiting = 0
  let turn: Promise<void> = Promise.resolve()
  let unreported: ShadowScore[] = []

  async function run(call: ShadowedCall, answered: WeightSet, text: ScoredText): Promise<void> {
    try {
      const tried = deps.weights(call.shadowVersion)
      if (!tried) return
      const signal = AbortSignal.timeout(deps.scoreTimeoutMs)
      const { tokens } = text
      const nll = await deps.engine.score({ weights: answered, tokens, signal })
      const nllShadow = await deps.engine.score({ weights: tried, tokens, signal })
      const { requestId, model, domain, shadowVersion } = call
      const score = {
        requestId,
        ...gatewayFields(call),
        model,
        domain,
        maskVersion: answered.version,
        shadowVersion,
        ...compare(text, nll, nllShadow),
      }
      const sums = [score.prompt, score.answer].flatMap((part) => [part.nll, part.nllShadow])
      if (!sums.every(Number.isFinite)) throw new Error('its negative log-likelihood is not finite')
      unreported = [...unreported, score].slice(-MAX_UNREPORTED)
    } catch (error) {
      // Under load some go unscored, by design; anything else is worth a line.
      if (isExpectedScoringFailure(error)) return
      deps.log.warn('an answer was not scored under the mask on trial', {
        version: call.shadowVersion,
        reason: reasonOf(error),
      })
    }
  }

  return {
    score(call, { finishReason, weights, text }) {
      const isWhole = finishReason === 'stop' || finishReason === 'length'
      if (!isWhole || !weights || weights.version === call.shadowVersion || waiting >= MAX_WAITING) return
      const scored = scoredText(text)
      if (scored.tokens.length <= MIN_TOKENS) return
      waiting += 1
      turn = turn.then(() => run(call, weights, scored)).finally(() => (waiting -= 1))
    },
    pendingScores: () => unreported,
    acknowledge(told) {
      const ids = new Set(told.map(({ requestId }) => requestId))
      unreported = unreported.filter(({ requestId }) => !ids.has(requestId))
    },
  }
}

/** What is scored: the end of a prompt and the beginning of its answer. */
interface ScoredText {
  tokens: readonly number[]
  promptTokens: number
}

function scoredText({ tokens, promptTokens }: GenerationOutcome['text']): ScoredText {
  const from = Math.max(0, promptTokens - MAX_PROMPT_TOKENS)
  return {
    tokens: tokens.slice(from, promptTokens + MAX_ANSWER_TOKENS),
    promptTokens: promptTokens - from,
  }
}

/** Sums over prompt and answer; the first token of all has nothing before it. */
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
