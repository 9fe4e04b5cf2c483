import { expect, test } from 'vitest'
import type { CachedResponse } from '@copal/shared/wire/receipts.ts'
import { createAnswerSender } from '../../../../gpu-node/src/serving/control/cached-response-sender.ts'
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

test('few answers are under way at a time, the rest is left out, and the next goes once there is room', async () => {
  const sent: string[] = []
  const gate = Promise.withResolvers<void>()
  const keepAnswer = async ({ body }: CachedResponse) => {
    sent.push(body)
    await gate.promise
  }
  const send = createAnswerSender({ gateway: { keepAnswer }, log: memoryLog() })
  for (let index = 0; index < 20; index += 1) send(answerOf(String(index)))
  expect(sent).toEqual(['0', '1', '2', '3', '4', '5', '6', '7'])
  gate.resolve()
  await new Promise((resolve) => setTimeout(resolve, 5))
  send(answerOf('later'))
  expect(sent.at(-1)).toBe('later')
})

test('an answer that the gateway does not take is one line in the log', async () => {
  const log = memoryLog()
  const keepAnswer = () => Promise.reject(new Error('away'))
  createAnswerSender({ gateway: { keepAnswer }, log })(answerOf('x'))
  await expect.poll(() => log.lines).toEqual([expect.stringContaining('away')])
})
