import { AppError } from '@copal/shared/errors.ts'
import type { EvaluateCall, EvaluateEvent } from '@copal/shared/wire/node-calls.ts'
import type { Evaluator } from './mask-evaluator.ts'
import { within } from '../../platform/timeout.ts'

/** Parts of {@link createEvaluateText}. */
export interface EvaluateTextDeps {
  evaluator: Evaluator
  /** The hash behind a version this node knows; null is dense, undefined unknown. */
  maskOf: (version: number) => string | null | undefined
  /** After so long without news the last is told again: connections that are silent get closed. */
  quietMs?: number
}

/** Progress may come faster than it is read: then only the newest is kept. */
interface Mailbox {
  progress: EvaluateEvent | undefined
  wake: () => void
}

const NOTHING_YET: EvaluateEvent = { type: 'progress', windowsDone: 0, windowsTotal: 0 }

/**
 * The node's answer to `POST /rpc/evaluate`: progress as windows are done, the result last.
 *
 * @throws AppError `not_found` for a version that is unknown here and comes without its hash, and as
 * {@link Evaluator} does; leaving the iteration ends the evaluation
 */
export function createEvaluateText(
  deps: EvaluateTextDeps,
): (call: EvaluateCall, signal: AbortSignal) => AsyncGenerator<EvaluateEvent> {
  const quietMs = deps.quietMs ?? 15_000
  return async function* evaluateText(call, signal) {
    const maskSha256 = maskOfCall(call, deps.maskOf)
    const left = new AbortController()
    const mailbox: Mailbox = { progress: undefined, wake: () => {} }
    let ended = false
    const evaluation = deps.evaluator
      .evaluate(maskSha256, [{ texts: [call.text] }], {
        windowTokens: call.windowTokens,
        maxWindows: call.maxWindows,
        signal: AbortSignal.any([signal, left.signal]),
        onProgress(windowsDone, windowsTotal) {
          mailbox.progress = { type: 'progress', windowsDone, windowsTotal }
          mailbox.wake()
        },
      })
      .finally(() => {
        ended = true
        mailbox.wake()
      })
    // It is awaited below; until then a failure must not count as unhandled.
    evaluation.catch(() => undefined)
    try {
      let last = NOTHING_YET
      while (!ended) {
        const woken = new Promise<true>((resolve) => (mailbox.wake = () => resolve(true)))
        const { progress } = mailbox
        mailbox.progress = undefined
        if (progress) yield (last = progress)
        else if (!(await within(woken, quietMs))) yield last
      }
      const [result] = await evaluation
      if (!result) throw new RangeError('one text gives one evaluation')
      if (!Number.isFinite(result.nllMean) || !Number.isFinite(result.perplexity)) {
        throw new AppError(
          'mask_invalid',
          `Under mask version ${call.maskVersion} the model gives no finite perplexity.`,
        )
      }
      yield { type: 'result', ...result, maskVersion: call.maskVersion }
    } finally {
      left.abort(new AppError('client_closed_request', 'Nobody waits for the evaluation any more.'))
    }
  }
}

function maskOfCall(call: EvaluateCall, maskOf: EvaluateTextDeps['maskOf']): string | null {
  if (call.maskVersion === 0) return null
  const sha256 = call.mask?.version === call.maskVersion ? call.mask.sha256 : maskOf(call.maskVersion)
  if (typeof sha256 === 'string') return sha256
  throw new AppError('not_found', `Mask version ${call.maskVersion} is not known on this node.`, {
    param: 'maskVersion',
  })
}
