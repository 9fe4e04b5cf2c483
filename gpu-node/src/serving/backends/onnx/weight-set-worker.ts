/**
 * Runs the process of one weight set: its session, its key/value cache and its sampling.
 *
 * The process ends when the node closes it or ends itself. It ignores signals to the process group, so that the node can
 * finish its requests first.
 */
import { enterBackground } from '../../../platform/background-priority.ts'
import { AppError, errorBody } from '@copal/shared/errors.ts'
import type { SequenceOutput } from '../../contract/backend.ts'
import { createAllowedTokensInbox } from './allowed-tokens-inbox.ts'
import { loadRunner } from './load-onnx-runner.ts'
import type { AllowedTokens, WeightSetReply, WeightSetCall, LoadOptions } from './weight-set-protocol.ts'
import type { Runner } from './onnx-runner.ts'

let runner: Runner | undefined
let previous: Promise<void> = Promise.resolve()
const inbox = createAllowedTokensInbox()

process.on('disconnect', () => process.exit(0))
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {})
process.on('message', (message: WeightSetCall | AllowedTokens) => {
  // Delivered at once, because the running step waits for it.
  if (message.kind === 'allowed') inbox.deliver(message)
  else previous = previous.then(() => handle(message))
})

async function handle(call: WeightSetCall): Promise<void> {
  let reply: WeightSetReply
  try {
    if (call.kind === 'load') await load(call.options)
    reply = { id: call.id, outputs: call.kind === 'step' ? await step(call) : [] }
  } catch (thrown) {
    reply = { id: call.id, failure: errorBody(asFailure(thrown)) }
  }
  process.send?.(reply, () => {
    if (call.kind === 'close') process.exit(0)
  })
}

async function step({ id, work, drop }: Extract<WeightSetCall, { kind: 'step' }>): Promise<SequenceOutput[]> {
  try {
    return await loaded().step(
      work.map(({ awaitsAllowed, ...item }, index) =>
        awaitsAllowed ? { ...item, allowed: inbox.allowed(id, index) } : item,
      ),
      drop,
    )
  } finally {
    inbox.close(id)
  }
}

async function load(options: LoadOptions): Promise<void> {
  // Before the runtime starts its threads, which inherit the priority.
  if (options.background) enterBackground()
  runner = await loadRunner(options)
}

function loaded(): Runner {
  if (!runner) throw new AppError('node_failed', 'The weight set is not loaded.')
  return runner
}

function asFailure(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown
  const reason = thrown instanceof Error ? thrown.message : String(thrown)
  return new AppError('node_failed', `The weight set failed: ${reason}`)
}
