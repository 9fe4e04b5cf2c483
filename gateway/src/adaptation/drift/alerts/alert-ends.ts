import { DAY_MS } from '@copal/shared/day.ts'
import type { AlertRow } from '../../../storage/db/queries/alert-queries.ts'

/** A drift alert ends when the mean has returned by this part of the change: less than the change that raised it. */
const RETURNED_SHARE = 0.5
/** After this time a change of the traffic is the new normal, and what is not scored any more says nothing. */
export const MAX_HOLD_MS = 7 * DAY_MS

/**
 * Returns whether a signal has returned to where it was before a drift alert.
 *
 * @param recent the recent mean of the signal, nats a token
 */
export function hasReturned({ kind, reference, level }: AlertRow, recent: number): boolean {
  const left = (recent - reference) / (level - reference)
  // A dense loss that fell below its old level is another change. A gap that fell there is no problem.
  return left <= RETURNED_SHARE && (kind === 'gap_drift' || left >= -RETURNED_SHARE)
}

/** Returns whether a change leads to the other side of where a signal was before a drift alert, so that another alert is due. */
export function isReversed({ reference, level }: AlertRow, after: number): boolean {
  return (after - reference) / (level - reference) < -RETURNED_SHARE
}

/** The facts by which a drift alert has ended although its signal has not returned. */
export interface ServedNow {
  /** Returns whether a mask serves a domain, or is on trial. */
  isServed(domain: string, maskVersion: number): boolean
  /** When the last update that took a domain put a mask into use, Unix milliseconds; undefined if none did. */
  lastLearntMs(domain: string): number | undefined
  /** When a signal of the alert was last read, Unix milliseconds; undefined if it is not known. */
  lastReadMs(alert: AlertRow): number | undefined
  nowMs: number
}

/**
 * Returns whether the cause of a drift alert is gone: the mask no longer serves, an update has learnt the changed traffic, the
 * alert has held for a week, or nothing was scored for a week.
 */
export function isOver(alert: AlertRow, now: ServedNow): boolean {
  const { kind, domain, maskVersion, raisedAt } = alert
  if (domain === null) return false
  const readMs = now.lastReadMs(alert) ?? raisedAt
  if (now.nowMs - readMs > MAX_HOLD_MS) return true
  if (kind === 'gap_drift') return !now.isServed(domain, maskVersion ?? 0)
  return (now.lastLearntMs(domain) ?? 0) > raisedAt || now.nowMs - raisedAt > MAX_HOLD_MS
}
