import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { createPacer } from '../../../gpu-node/src/platform/pacer.ts'

/** Works in pieces of `pieceMs` for `totalMs`, and returns the share of the time that it worked. */
async function dutyOf(
  pacer: ReturnType<typeof createPacer>,
  pieceMs: number,
  totalMs: number,
): Promise<number> {
  const startMs = performance.now()
  let workedMs = 0
  while (performance.now() - startMs < totalMs) {
    const pieceStartMs = performance.now()
    await sleep(pieceMs)
    workedMs += performance.now() - pieceStartMs
    await pacer.pause()
  }
  return workedMs / (performance.now() - startMs)
}

test.each([
  [0.3, 10],
  [0.3, 60],
  [0.5, 20],
  [1, 20],
])('work takes the share %f of the time while it is bound, in pieces of %i ms', async (share, pieceMs) => {
  const pacer = createPacer(share)
  pacer.bind(true)
  const duty = await dutyOf(pacer, pieceMs, 1_000)
  expect(duty).toBeGreaterThan(share * 0.85)
  expect(duty).toBeLessThan(share * 1.05)
})

test('work that is not bound never waits', async () => {
  expect(await dutyOf(createPacer(0.1), 10, 300)).toBeGreaterThan(0.9)
})

test('a wait ends as soon as the work is released, and what came before it was bound costs nothing', async () => {
  const pacer = createPacer(0.01)
  await sleep(50)
  pacer.bind(true)
  let startMs = performance.now()
  await pacer.pause()
  expect(performance.now() - startMs).toBeLessThan(45)
  // This wait would last five seconds.
  await sleep(50)
  startMs = performance.now()
  setTimeout(() => pacer.bind(false), 60)
  await pacer.pause()
  expect(performance.now() - startMs).toBeLessThan(1_000)
})

test('a wait ends when it is aborted, with the reason', async () => {
  const pacer = createPacer(0.01)
  pacer.bind(true)
  await sleep(50)
  const abort = new AbortController()
  setTimeout(() => abort.abort(new Error('not wanted any more')), 30)
  await expect(pacer.pause(abort.signal)).rejects.toThrow('not wanted any more')
  await expect(pacer.pause(abort.signal)).rejects.toThrow('not wanted any more')
})
