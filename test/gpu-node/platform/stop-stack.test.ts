import { expect, test } from 'vitest'
import { createStopStack } from '../../../gpu-node/src/platform/stop-stack.ts'
import { memoryLog } from '../../support/doubles/memory-log.ts'

test('parts stop one after another in the reverse order, and only once', async () => {
  const stopped: string[] = []
  const parts = createStopStack(60_000, memoryLog())
  expect(parts.add('port', 8790, () => stopped.push('port'))).toBe(8790)
  parts.add('weights', null, async () => {
    await new Promise((resolve) => setTimeout(resolve, 5))
    stopped.push('weights')
  })
  await parts.stop()
  await parts.stop()
  expect(stopped).toEqual(['weights', 'port'])
})

test('a part that fails to stop, or never does, is logged and keeps no other from stopping', async () => {
  const log = memoryLog()
  const stopped: string[] = []
  const parts = createStopStack(20, log)
  parts.add('home', null, () => stopped.push('home'))
  parts.add('weights', null, () => new Promise(() => {}))
  parts.add('receipts', null, () => {
    throw new Error('the disk is full')
  })
  await parts.stop()
  expect(stopped).toEqual(['home'])
  expect(log.lines).toEqual([
    expect.stringMatching(/did not stop cleanly.*receipts.*the disk is full/),
    expect.stringMatching(/not stopped in time.*weights/),
  ])
})
