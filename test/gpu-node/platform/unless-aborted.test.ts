import { expect, test } from 'vitest'
import { unlessAborted, unlessCancelled } from '../../../gpu-node/src/platform/unless-aborted.ts'

const forEver = new Promise<never>(() => {})

test('work for a client that leaves fails as a closed request', async () => {
  const leaving = new AbortController()
  const work = unlessAborted(forEver, leaving.signal)
  leaving.abort(new Error('it left'))
  await expect(work).rejects.toMatchObject({ code: 'client_closed_request' })
})

test('a cancelled piece of a start fails with the reason, and is not begun after it', async () => {
  const cancelling = new AbortController()
  const work = unlessCancelled(() => forEver, cancelling.signal)
  cancelling.abort(new Error('stopped'))
  await expect(work).rejects.toThrow(/^stopped$/)
  let isBegun = false
  const later = unlessCancelled(() => Promise.resolve((isBegun = true)), cancelling.signal)
  await expect(later).rejects.toThrow(/^stopped$/)
  expect(isBegun).toBe(false)
})

test('a piece of a start that is not cancelled gives its result or its error', async () => {
  const { signal } = new AbortController()
  expect(await unlessCancelled(() => Promise.resolve(7), signal)).toBe(7)
  await expect(unlessCancelled(() => Promise.reject(new Error('it failed')), signal)).rejects.toThrow(
    'it failed',
  )
})
