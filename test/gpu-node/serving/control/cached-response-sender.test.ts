import { expect, test } from 'vitest'
import type { CachedResponse } from '@copal/shared/wire/receipts.ts'
import { createCachedResponseSender } from '../../../../gpu-node/src/serving/control/cached-response-sender.ts'
import { memoryLog } from '../../../support/doubles/memory-log.ts'

const answerOf = (body: string): CachedResponse => ({
  key: 'a'.repeat(64),
  ttlMs: 1_000,
  nodeId: 'node-1',
  tenant: 'acme',
  maskVersion: 3,
  contentType: 'text/event-stream',
  body,
})

test('few responses are sent at a time, further ones are skipped, and the next is sent once there is room', async () => {
  const sent: string[] = []
  const gate = Promise.withResolvers<void>()
  const sendCachedResponse = async ({ body }: CachedResponse) => {
    sent.push(body)
    await gate.promise
  }
  const send = createCachedResponseSender({ gateway: { sendCachedResponse }, log: memoryLog() })
  for (let index = 0; index < 20; index += 1) send(answerOf(String(index)))
  expect(sent).toEqual(['0', '1', '2', '3', '4', '5', '6', '7'])
  gate.resolve()
  await new Promise((resolve) => setTimeout(resolve, 5))
  send(answerOf('later'))
  expect(sent.at(-1)).toBe('later')
})

test('a response that the gateway rejects is logged once', async () => {
  const log = memoryLog()
  const sendCachedResponse = () => Promise.reject(new Error('away'))
  createCachedResponseSender({ gateway: { sendCachedResponse }, log })(answerOf('x'))
  await expect.poll(() => log.lines).toEqual([expect.stringContaining('away')])
})
