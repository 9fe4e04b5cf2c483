import type { AppError } from '@copal/shared/errors.ts'
import type { RequestProgress } from '@copal/shared/wire/heartbeat.ts'
import type { Receipt } from '@copal/shared/wire/receipts.ts'
import type { WeightSet } from '../contract/backend.ts'
import type { GenerationOutcome } from '../engine/generation-request.ts'
import { finishReasonOf } from '../engine/request-errors.ts'
import { scoreDrift, type DriftDeps } from './drift-scoring.ts'

/** The call that a receipt settles. */
export interface ReceiptCall {
  requestId: string
  model: string
  domain: string
  /** Whom the gateway charges. */
  account?: string | undefined
  /** Proves to the gateway that it made this call. */
  attestation?: string | undefined
  /** The client's own text as tokens when it may be scored; tokenised only then. */
  sampledText: (() => readonly number[]) | null
}

/** Makes exactly one receipt of each call, but of one that another node may take. */
export interface ReceiptIssuer {
  /** After a generation ended; a sampled text is scored first, and nobody waits for that. */
  settle(call: ReceiptCall, outcome: GenerationOutcome): void
  /** For a call that was refused before it ran; nothing of it is left to settle where another node may answer it. */
  reject(call: ReceiptCall, arrivedMs: number, error: AppError): void
  /** Calls whose receipt waits for its scores: done, and not settled yet. */
  scoringProgress(): RequestProgress[]
  /** Settles when no receipt is outstanding. */
  settled(): Promise<void>
}

/** What receipts are made from and given to. */
export interface ReceiptDeps extends DriftDeps {
  activeVersion: () => number | null
  onReceipt: (receipt: Receipt) => void
  nowMs: () => number
}

/** A desk without outstanding receipts. */
export function createReceiptIssuer(deps: ReceiptDeps): ReceiptIssuer {
  const outstanding = new Map<string, { receipt: Receipt; sent: Promise<void> }>()

  async function scoreAndSend(call: ReceiptCall, weights: WeightSet, receipt: Receipt): Promise<void> {
    const drift = call.sampledText ? await scoreDrift(deps, weights, call.sampledText) : null
    outstanding.delete(call.requestId)
    deps.onReceipt({ ...receipt, drift })
  }

  return {
    settle(call, outcome) {
      const receipt = receiptOf(call, outcome, deps.activeVersion())
      const isWhole = outcome.finishReason === 'stop' || outcome.finishReason === 'length'
      if (call.sampledText && outcome.weights && isWhole) {
        outstanding.set(call.requestId, { receipt, sent: scoreAndSend(call, outcome.weights, receipt) })
      } else deps.onReceipt(receipt)
    },
    reject(call, arrivedMs, error) {
      if (error.retryable) return
      const { requestId, model, domain } = call
      deps.onReceipt({
        requestId,
        ...gatewayFields(call),
        model,
        domain,
        maskVersion: deps.activeVersion() ?? 0,
        promptTokens: 0,
        completionTokens: 0,
        finishReason: finishReasonOf(error),
        queueMs: 0,
        timeToFirstTokenMs: null,
        totalMs: deps.nowMs() - arrivedMs,
        drift: null,
      })
    },
    scoringProgress: () =>
      [...outstanding.values()].map(({ receipt: { requestId, promptTokens, completionTokens } }) => ({
        requestId,
        promptTokens,
        completionTokens,
        idleMs: 0,
      })),
    async settled() {
      while (outstanding.size > 0) await Promise.all([...outstanding.values()].map(({ sent }) => sent))
    },
  }
}

/** What a generation cost. One that never started names the active version. */
function receiptOf(call: ReceiptCall, outcome: GenerationOutcome, activeVersion: number | null): Receipt {
  const { arrivedMs, startedMs, firstTokenMs, endedMs } = outcome.times
  return {
    requestId: call.requestId,
    ...gatewayFields(call),
    model: call.model,
    domain: call.domain,
    maskVersion: outcome.weights?.version ?? activeVersion ?? 0,
    promptTokens: outcome.promptTokens,
    completionTokens: outcome.completionTokens,
    finishReason: outcome.finishReason,
    queueMs: (startedMs ?? endedMs) - arrivedMs,
    timeToFirstTokenMs: firstTokenMs === null ? null : firstTokenMs - arrivedMs,
    totalMs: endedMs - arrivedMs,
    drift: null,
  }
}

/** What the gateway gets back as it came. */
export function gatewayFields({ account, attestation }: Pick<ReceiptCall, 'account' | 'attestation'>) {
  return {
    ...(account === undefined ? {} : { account }),
    ...(attestation === undefined ? {} : { attestation }),
  }
}
