import { AppError } from '@copal/shared/errors.ts'
import type { EvaluateCall, EvaluateEvent } from '@copal/shared/wire/node-calls.ts'
import type { MaskEvaluator } from './mask-evaluator.ts'
import { withTimeout } from '../../platform/timeout.ts'

/** Parts of a text evaluator. */
export interface TextEvaluatorDeps {
  evaluator: MaskEvaluator
  /** Returns the mask hash of a version; null is dense, undefined unknown. */
  maskOf: (version: number) => string | null | undefined
  /** Time without progress after which the last event is sent again, because silent connections get closed. */
  keepAliveMs?: number
}

/** Calls that may run or wait. Each holds a text of up to 16 MB, and they run one at a time. */
const MAX_CALLS = 8
/** An evaluation takes seconds to minutes. */
const RETRY_AFTER_S = 30

/** The newest progress event. Progress may arrive faster than it is read. */
interface Mailbox {
  progress: EvaluateEvent | undefined
  wake: () => void
}

const NO_PROGRESS: EvaluateEvent = { type: 'progress', windowsDone: 0, windowsTotal: 0 }

/**
 * Creates the function behind `POST /rpc/evaluate`, which yields progress as windows are done, then the result. Ending the
 * iteration early aborts the evaluation.
 *
 * @throws AppError `not_found` for a version that this node does not know and whose hash the call does not give, `overloaded`
 * while too many wait, and as {@link MaskEvaluator} does
 */
export function createTextEvaluator(
  deps: TextEvaluatorDeps,
): (call: EvaluateCall, signal: AbortSignal) => AsyncGenerator<EvaluateEvent> {
  const keepAliveMs = deps.keepAliveMs ?? 15_000
  let calls = 0
  return async function* evaluateText(call, signal) {
    const maskSha256 = maskOfCall(call, deps.maskOf)
    if (calls >= MAX_CALLS) {
      const message = `This node already evaluates ${MAX_CALLS} texts, one after the other. Try again in ${RETRY_AFTER_S} s.`
      throw new AppError('overloaded', message, { retryAfterS: RETRY_AFTER_S })
    }
    calls += 1
    const abandoned = new AbortController()
    const mailbox: Mailbox = { progress: undefined, wake: () => {} }
    let ended = false
    const evaluation = deps.evaluator
      .evaluate(maskSha256, [{ texts: [call.text] }], {
        windowTokens: call.windowTokens,
        maxWindows: call.maxWindows,
        signal: AbortSignal.any([signal, abandoned.signal]),
        onProgress(windowsDone, windowsTotal) {
          mailbox.progress = { type: 'progress', windowsDone, windowsTotal }
          mailbox.wake()
        },
      })
      .finally(() => {
        calls -= 1
        ended = true
        mailbox.wake()
      })
    // Awaited below; a failure before that must not count as unhandled.
    evaluation.catch(() => undefined)
    try {
      let last = NO_PROGRESS
      while (!ended) {
        const woken = new Promise<true>((resolve) => (mailbox.wake = () => resolve(true)))
        const { progress } = mailbox
        mailbox.progress = undefined
        if (progress) yield (last = progress)
        else if (!(await withTimeout(woken, keepAliveMs))) yield last
      }
      const [result] = (await evaluation).sources
      if (!result) throw new RangeError('the evaluation of one text gave no result')
      if (!Number.isFinite(result.nllMean) || !Number.isFinite(result.perplexity)) {
        throw new AppError(
          'mask_invalid',
          `Under mask version ${call.maskVersion} the model gives no finite perplexity.`,
        )
      }
      yield { type: 'result', ...result, maskVersion: call.maskVersion }
    } finally {
      abandoned.abort(new AppError('client_closed_request', 'The client of the evaluation disconnected.'))
    }
  }
}

function maskOfCall(call: EvaluateCall, maskOf: TextEvaluatorDeps['maskOf']): string | null {
  if (call.maskVersion === 0) return null
  const sha256 = call.mask?.version === call.maskVersion ? call.mask.sha256 : maskOf(call.maskVersion)
  if (typeof sha256 === 'string') return sha256
  throw new AppError('not_found', `Mask version ${call.maskVersion} is not known on this node.`, {
    param: 'maskVersion',
  })
}
