import { AppError, errorBody } from '@copal/shared/errors.ts'
import type { SequenceOutput, SequenceWork } from '../../contract/backend.ts'
import { createAllowedTokensInbox } from './allowed-tokens-inbox.ts'
import { killThisProcess } from '../../../platform/process-end.ts'
import { reportProcessorTime } from '../../../platform/processor-time.ts'
import type { AllowedTokens, WeightSetCall, WeightSetReply } from './weight-set-protocol.ts'

/** Runs the steps of a loaded weight set, as `Backend.step` does. */
interface StepRunner {
  /** The numerics of the weights, which the reply to the first call names. */
  readonly numerics?: string | undefined
  step(work: readonly SequenceWork[], drop: readonly number[]): Promise<SequenceOutput[]>
}

/**
 * Serves the calls of the node in the process of one weight set, see `startWeightSetProcess`.
 *
 * The process ends when the node closes it or ends itself. It ignores signals to the process group, so that the node can
 * finish its requests first. When the node has ended it is killed, because a thread of it may hang in a driver.
 *
 * @param load loads the weights that the first call names
 */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the rule overlooks that the messages received in the body carry the options
export function serveWeightSet<Options>(load: (options: Options) => Promise<StepRunner>): void {
  let runner: StepRunner | undefined
  let previous: Promise<void> = Promise.resolve()
  const inbox = createAllowedTokensInbox()

  reportProcessorTime()
  process.on('disconnect', killThisProcess)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {})
  process.on('message', (message: WeightSetCall<Options> | AllowedTokens) => {
    // Delivered at once, because the running step waits for it.
    if (message.kind === 'allowed') inbox.deliver(message)
    else previous = previous.then(() => handle(message))
  })

  async function handle(call: WeightSetCall<Options>): Promise<void> {
    let reply: WeightSetReply
    try {
      if (call.kind === 'load') {
        runner = await load(call.options)
        reply = { id: call.id, outputs: [], numerics: runner.numerics }
      } else reply = { id: call.id, outputs: call.kind === 'step' ? await step(call) : [] }
    } catch (thrown) {
      reply = { id: call.id, failure: errorBody(asFailure(thrown)) }
    }
    process.send?.(reply, () => {
      if (call.kind === 'close') process.exit(0)
    })
  }

  async function step({
    id,
    work,
    drop,
  }: Extract<WeightSetCall<Options>, { kind: 'step' }>): Promise<SequenceOutput[]> {
    if (!runner) throw new AppError('node_failed', 'The weight set is not loaded.')
    try {
      return await runner.step(
        work.map(({ awaitsAllowed, ...item }, index) =>
          awaitsAllowed ? { ...item, allowed: inbox.allowed(id, index) } : item,
        ),
        drop,
      )
    } finally {
      inbox.close(id)
    }
  }
}

function asFailure(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown
  const reason = thrown instanceof Error ? thrown.message : String(thrown)
  return new AppError('node_failed', `The weight set failed: ${reason}`)
}
