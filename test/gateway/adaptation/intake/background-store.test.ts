import { expect, onTestFinished, test, vi } from 'vitest'
import { backgroundVersion } from '../../../../gateway/src/adaptation/intake/background-store.ts'

test('the background texts are hashed once, however often a run asks for their version', async () => {
  const digest = vi.spyOn(crypto.subtle, 'digest')
  onTestFinished(() => digest.mockRestore())
  const version = await backgroundVersion()
  expect(version).toMatch(/^[0-9a-f]{64}$/)
  for (let run = 0; run < 3; run += 1) expect(await backgroundVersion()).toBe(version)
  expect(digest.mock.calls.length).toBeLessThanOrEqual(1)
})
