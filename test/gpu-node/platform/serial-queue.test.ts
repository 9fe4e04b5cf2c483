import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { createSerialQueue } from '../../../gpu-node/src/platform/serial-queue.ts'

test('tasks run one at a time in their order, also after a failure', async () => {
  const line = createSerialQueue('pieces of work', 10)
  const events: string[] = []
  const work = (name: string) => async () => {
    events.push(`${name} begins`)
    await turn()
    events.push(`${name} ends`)
    if (name === 'a') throw new Error('a failed')
    return name
  }
  const settled = await Promise.allSettled(['a', 'b'].map((name) => line.run(work(name))))
  expect(settled).toMatchObject([{ status: 'rejected' }, { value: 'b' }])
  expect(events).toEqual(['a begins', 'a ends', 'b begins', 'b ends'])
})

test('a full queue rejects tasks, and an aborted waiting task leaves the queue without running', async () => {
  const line = createSerialQueue('pieces of work', 2)
  const { promise, resolve } = Promise.withResolvers<void>()
  const leaver = new AbortController()
  const begun: string[] = []
  const first = line.run(() => promise)
  const second = line.run(async () => void begun.push('second'), leaver.signal)
  await expect(line.run(async () => undefined)).rejects.toMatchObject({
    code: 'overloaded',
    message: expect.stringContaining('2 pieces of work') as string,
  })
  leaver.abort()
  await expect(second).rejects.toMatchObject({ code: 'client_closed_request' })
  const third = line.run(async () => void begun.push('third'))
  resolve()
  await Promise.all([first, third])
  expect(begun).toEqual(['third'])
})
