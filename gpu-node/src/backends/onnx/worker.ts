/**
 * The process of one weight set: its sessions, its key/value cache, its sampling.
 *
 * It ends when the node closes it or is gone. A signal meant for the whole process group is left to
 * the node, which finishes its requests first.
 */
import { enterBackground } from '../../background-priority.ts'
import { AppError, errorBody } from '@copal/shared/errors.ts'
import { loadRunner } from './load-runner.ts'
import type { Answer, Call, LoadOptions } from './protocol.ts'
import type { Runner } from './runner.ts'

let runner: Runner | undefined
let previous: Promise<void> = Promise.resolve()

process.on('disconnect', () => process.exit(0))
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {})
process.on('message', (message) => {
  previous = previous.then(() => answer(message as Call))
})

async function answer(call: Call): Promise<void> {
  let reply: Answer
  try {
    if (call.kind === 'load') await load(call.options)
    reply = { id: call.id, outputs: call.kind === 'step' ? await loaded().step(call.work, call.drop) : [] }
  } catch (thrown) {
    reply = { id: call.id, failure: errorBody(asFailure(thrown)) }
  }
  process.send?.(reply, () => {
    if (call.kind === 'close') process.exit(0)
  })
}

async function load(options: LoadOptions): Promise<void> {
  // Before the runtime makes its threads, which inherit it.
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
