import { env } from 'cloudflare:workers'
import { onTestFinished, vi, type Mock } from 'vitest'

/** Until the test ends every query fails as when D1's connection is lost, and errors are logged to what it returns alone. */
export function loseDatabase(): Mock<typeof console.error> {
  const lose = () => Promise.reject(new Error('D1_ERROR: Network connection lost.'))
  const statement = Object.getPrototypeOf(env.DB.prepare('SELECT 1')) as D1PreparedStatement
  for (const method of ['run', 'all', 'raw', 'first'] as const)
    vi.spyOn(statement, method).mockImplementation(lose)
  vi.spyOn(Object.getPrototypeOf(env.DB) as D1Database, 'batch').mockImplementation(lose)
  onTestFinished(() => void vi.restoreAllMocks())
  return vi.spyOn(console, 'error').mockImplementation(() => undefined)
}
