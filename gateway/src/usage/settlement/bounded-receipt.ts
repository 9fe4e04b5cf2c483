import { DAY_MS } from '@copal/shared/day.ts'
import type { ShadowScore } from '@copal/shared/wire/heartbeat.ts'
import type { Receipt } from '@copal/shared/wire/receipts.ts'

/** Largest mean loss of a text, nats a token, as nodes report for weights without a finite one; a uniform guess costs 8 to 12. */
const MAX_MEAN_NATS = 1_000
/** Longest time that is believed, milliseconds: a node that was offline reports for a week. */
const MAX_TIME_MS = 8 * DAY_MS

/**
 * Returns a receipt with its measurements within bounds. Sums of them and of their squares are kept for ever, and one number near
 * the largest that there is would make them infinite, for all nodes: then corrections of the same sums fail.
 */
export function boundedReceipt<
  T extends Pick<Receipt, 'queueMs' | 'timeToFirstTokenMs' | 'totalMs' | 'drift'>,
>(receipt: T): T {
  const { queueMs, timeToFirstTokenMs, totalMs, drift } = receipt
  const time = (ms: number) => bounded(ms, MAX_TIME_MS)
  return {
    ...receipt,
    queueMs: time(queueMs),
    timeToFirstTokenMs: timeToFirstTokenMs === null ? null : time(timeToFirstTokenMs),
    totalMs: time(totalMs),
    drift: drift && {
      tokens: drift.tokens,
      nllMasked: loss(drift.nllMasked, drift.tokens),
      nllDense: loss(drift.nllDense, drift.tokens),
    },
  }
}

/** Returns a score of a shadow with its losses within bounds, likewise. */
export function boundedScore<T extends Pick<ShadowScore, 'prompt' | 'answer'>>(score: T): T {
  const sums = ({ tokens, nll, nllShadow }: ShadowScore['prompt']) => ({
    tokens,
    nll: loss(nll, tokens),
    nllShadow: loss(nllShadow, tokens),
  })
  return { ...score, prompt: sums(score.prompt), answer: sums(score.answer) }
}

function loss(nats: number, tokens: number): number {
  return bounded(nats, MAX_MEAN_NATS * tokens)
}

function bounded(value: number, largest: number): number {
  return Math.min(Math.max(value, 0), largest)
}
