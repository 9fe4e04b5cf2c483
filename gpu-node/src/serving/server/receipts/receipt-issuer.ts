import type { AppError } from '@copal/shared/errors.ts'
import type { RequestProgress } from '@copal/shared/wire/heartbeat.ts'
import type { Receipt } from '@copal/shared/wire/receipts.ts'
import type { WeightSet } from '../../contract/backend.ts'
import type { GenerationOutcome } from '../../engine/generation-request.ts'
import { finishReasonOf } from '../../engine/request-errors.ts'
import type { ClientText } from '../prompts/client-text.ts'
import { createDriftScorer, type DriftDeps } from './drift-scoring.ts'

/** The call that a receipt describes. */
export interface ReceiptCall {
  requestId: string
  model: string
  domain: string
  /** Version of the weights that the call names. */
  maskVersion?: number | undefined
  /** The account that the gateway charges. */
  account?: string | undefined
  /** Proves to the gateway that it issued this call. */
  attestation?: string | undefined
  /** The span of the call, in the form of a `traceparent` header. */
  traceparent?: string | undefined
  /** Returns the client's new text; null when the text may not be scored. */
  sampledText: (() => Promise<ClientText>) | null
}

/** Issues exactly one receipt per call, except for rejected calls that another node may serve. */
export interface ReceiptIssuer {
  /** Issues the receipt of an ended generation, for a sampled text after its scoring. Does not wait for that. */
  settle(call: ReceiptCall, outcome: GenerationOutcome): void
  /** Issues the receipt of a call that was rejected before it ran; none when another node may serve it. */
  reject(call: ReceiptCall, arrivedMs: number, error: AppError): void
  /** Returns the progress of ended calls whose receipt waits for its scores. */
  scoringProgress(): RequestProgress[]
  /** Issues outstanding receipts without scores, because the node stops, and logs how many. */
  stopScoring(): void
  /** Settles when no receipt is outstanding. */
  settled(): Promise<void>
}

/** Parts of a {@link ReceiptIssuer}. */
export interface ReceiptDeps extends DriftDeps {
  activeVersion: () => number | null
  onReceipt: (receipt: Receipt) => void
  nowMs: () => number
}

/** Creates an issuer without outstanding receipts. */
export function createReceiptIssuer(deps: ReceiptDeps): ReceiptIssuer {
  const outstanding = new Map<string, { receipt: Receipt; sent: Promise<void> }>()
  const scorer = createDriftScorer(deps)

  async function scoreAndSend(
    { requestId }: ReceiptCall,
    weights: WeightSet,
    text: () => Promise<ClientText>,
    receipt: Receipt,
  ): Promise<void> {
    const score = await scorer.score(requestId, weights, text)
    outstanding.delete(requestId)
    deps.onReceipt({ ...receipt, ...score })
  }

  return {
    settle(call, outcome) {
      const receipt = receiptOf(call, outcome, deps.activeVersion())
      const isComplete = outcome.finishReason === 'stop' || outcome.finishReason === 'length'
      const { sampledText } = call
      if (sampledText && outcome.weights && isComplete) {
        const sent = scoreAndSend(call, outcome.weights, sampledText, receipt)
        outstanding.set(call.requestId, { receipt, sent })
      } else deps.onReceipt(receipt)
    },
    reject(call, arrivedMs, error) {
      if (error.retryable) return
      const { requestId, model, domain } = call
      deps.onReceipt({
        requestId,
        ...gatewayFields(call),
        ...traceField(call),
        model,
        domain,
        maskVersion: call.maskVersion ?? deps.activeVersion() ?? 0,
        promptTokens: 0,
        completionTokens: 0,
        finishReason: finishReasonOf(error),
        errorCode: error.code,
        queueMs: 0,
        timeToFirstTokenMs: null,
        totalMs: deps.nowMs() - arrivedMs,
        drift: null,
        scoring: 'not_sampled',
      })
    },
    scoringProgress: () =>
      [...outstanding.values()].map(({ receipt: { requestId, promptTokens, completionTokens } }) => ({
        requestId,
        promptTokens,
        completionTokens,
        idleMs: 0,
      })),
    stopScoring() {
      const texts = outstanding.size
      if (texts > 0) deps.log.info('sampled texts are left unscored, because the node stops', { texts })
      scorer.close()
    },
    async settled() {
      while (outstanding.size > 0) await Promise.all([...outstanding.values()].map(({ sent }) => sent))
    },
  }
}

/**
 * Creates the receipt of a generation. One that failed before or in its first step names the weights that its call named, or else
 * the active ones.
 */
function receiptOf(call: ReceiptCall, outcome: GenerationOutcome, activeVersion: number | null): Receipt {
  const { arrivedMs, startedMs, firstTokenMs, endedMs } = outcome.times
  return {
    requestId: call.requestId,
    ...gatewayFields(call),
    ...traceField(call),
    model: call.model,
    domain: call.domain,
    maskVersion: outcome.weights?.version ?? call.maskVersion ?? activeVersion ?? 0,
    promptTokens: outcome.promptTokens,
    completionTokens: outcome.completionTokens,
    finishReason: outcome.finishReason,
    ...(outcome.error ? { errorCode: outcome.error.code } : {}),
    queueMs: (startedMs ?? endedMs) - arrivedMs,
    timeToFirstTokenMs: firstTokenMs === null ? null : firstTokenMs - arrivedMs,
    totalMs: endedMs - arrivedMs,
    drift: null,
    scoring: 'not_sampled',
  }
}

/** Returns the fields that the gateway receives back unchanged. */
export function gatewayFields({ account, attestation }: Pick<ReceiptCall, 'account' | 'attestation'>) {
  return {
    ...(account === undefined ? {} : { account }),
    ...(attestation === undefined ? {} : { attestation }),
  }
}

function traceField({ traceparent }: Pick<ReceiptCall, 'traceparent'>) {
  return traceparent === undefined ? {} : { traceparent }
}
