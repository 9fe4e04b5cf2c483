import { env } from 'cloudflare:workers'
import { onTestFinished, vi, type Mock } from 'vitest'

/** Makes every query fail as if D1's connection were lost, until the test ends. Returns the mock that receives the logged errors. */
export function loseDatabase(): Mock<typeof console.error> {
  const lose = () => Promise.reject(new Error('D1_ERROR: Network connection lost.'))
  const statement = Object.getPrototypeOf(env.DB.prepare('SELECT 1')) as D1PreparedStatement
  for (const method of ['run', 'all', 'raw', 'first'] as const)
    vi.spyOn(statement, method).mockImplementation(lose)
  vi.spyOn(Object.getPrototypeOf(env.DB) as D1Database, 'batch').mockImplementation(lose)
  onTestFinished(() => void vi.restoreAllMocks())
  return vi.spyOn(console, 'error').mockImplementation(() => undefined)
}
