import { env } from 'cloudflare:workers'
import { vi } from 'vitest'
import { emptyBindings } from './empty-bindings.ts'

/**
 * Gives a test file what a new process has: empty bindings, the schema, and modules without state. Test files of a workerd
 * process run one after the other.
 */
export async function beginFile(): Promise<void> {
  if (globalThis.hasRunFile) {
    await emptyBindings()
    vi.resetModules()
  }
  globalThis.hasRunFile = true
  await env.DB.batch(env.TEST_SCHEMA.map((statement) => env.DB.prepare(statement)))
  await dropOldMessages()
}

/** Has the Worker drop messages that were sent before now: a queue is not emptied with the other bindings. */
async function dropOldMessages(): Promise<void> {
  const { default: worker } = await import('../../../../gateway/src/index.ts')
  const startedAtMs = Date.now()
  const isOld = ({ timestamp }: Message) => timestamp.getTime() < startedAtMs
  const consume = worker.queue.bind(worker)
  worker.queue = (batch, bindings, ctx) => {
    for (const message of batch.messages.filter(isOld)) message.ack()
    const messages = batch.messages.filter((message) => !isOld(message))
    const { queue, metadata } = batch
    const ackAll = () => messages.forEach((message) => message.ack())
    const retryAll = (options?: QueueRetryOptions) => messages.forEach((message) => message.retry(options))
    return consume({ queue, metadata, messages, ackAll, retryAll }, bindings, ctx)
  }
}
