import { resolve } from 'node:path'
import { unstable_readConfig } from 'wrangler'
import { expect, test } from 'vitest'
import { SAMPLE_QUEUE } from '../../../gateway/src/adaptation/sampling/sample-queue.ts'

test('the queue of samples is tried as often, and given up to where, as the gateway tells', () => {
  const config = resolve(import.meta.dirname, '../../../wrangler.toml')
  const { consumers } = unstable_readConfig({ config }, { hideWarnings: true }).queues
  expect(consumers).toMatchObject([
    {
      queue: SAMPLE_QUEUE.queue,
      max_retries: SAMPLE_QUEUE.retries,
      dead_letter_queue: SAMPLE_QUEUE.deadLetters,
    },
  ])
})
