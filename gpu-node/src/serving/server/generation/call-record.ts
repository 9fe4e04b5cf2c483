import type { AppError } from '@copal/shared/errors.ts'
import { monotonicMs } from '../../../platform/clock.ts'
import { logInTrace } from '../../../platform/log.ts'
import type { GenerationOutcome } from '../../engine/generation-request.ts'
import { startCallTelemetry } from '../../telemetry/call-telemetry.ts'
import type { ReceiptCall, ReceiptIssuer } from '../receipts/receipt-issuer.ts'
import { logBrokenResponse } from './late-response.ts'
import type { NodeServerDeps } from './node-server-deps.ts'
import type { RunningCall, RunningCalls } from './running-calls.ts'

/** Records one call: its span, metrics, progress and receipt. The server calls exactly one of `ended` and `rejected`. */
export interface CallRecord extends Pick<RunningCall, 'track'> {
  /**
   * The call has ended with this outcome.
   *
   * @param outputs outputs that were generated side by side
   */
  ended(outcome: GenerationOutcome, outputs: number): void
  /** The call was rejected before it ran. */
  rejected(error: AppError): void
  /** Logs why its response broke off after it began. */
  broken: (thrown: unknown) => void
}

/** Begins the record of a call, when it arrives. */
export type BeginRecord = (call: Omit<ReceiptCall, 'traceparent'>, request: Request) => CallRecord

/** Creates the function that begins records. */
export function createCallRecords(
  { telemetry, log }: Pick<NodeServerDeps, 'telemetry' | 'log'>,
  receipts: ReceiptIssuer,
  calls: RunningCalls,
): BeginRecord {
  return (call, { url, headers }) => {
    const arrivedMs = monotonicMs()
    const { requestId } = call
    const running = calls.begin(requestId)
    const observed = startCallTelemetry(telemetry, headers, { ...call, route: new URL(url).pathname })
    const receiptCall = { ...call, traceparent: observed.traceparent }
    return {
      track: (part, outcome) => running.track(part, outcome),
      ended(outcome, outputs) {
        observed.ended(outcome, outputs)
        receipts.settle(receiptCall, outcome)
        running.end()
      },
      rejected(error) {
        observed.rejected(error, monotonicMs() - arrivedMs)
        receipts.reject(receiptCall, arrivedMs, error)
        running.end()
      },
      broken: logBrokenResponse(logInTrace(log, observed.trace), requestId),
    }
  }
}
