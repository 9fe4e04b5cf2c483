import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { HungCallError, unlessHung } from '../../../gpu-node/src/platform/hung-call.ts'

test('a call that returns gives its result or its error', async () => {
  expect(await unlessHung(Promise.resolve(7), 60_000)).toBe(7)
  await expect(unlessHung(Promise.reject(new Error('it failed')), 60_000)).rejects.toThrow('it failed')
})

test('a call that does not return in its time fails', async () => {
  const failed = unlessHung(new Promise(() => {}), 40)
  await expect(failed).rejects.toThrow(HungCallError)
})

test('time in which the process did not run does not count', async () => {
  const call = unlessHung(
    sleep(10).then(() => 'done'),
    100,
  )
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500)
  expect(await call).toBe('done')
})
