import { env } from 'cloudflare:workers'
import { onTestFinished, vi } from 'vitest'

/** Until the test ends every query fails as when D1's connection is lost, and the log is silent. */
export function loseDatabase(): void {
  const lose = () => Promise.reject(new Error('D1_ERROR: Network connection lost.'))
  const statement = Object.getPrototypeOf(env.DB.prepare('SELECT 1')) as D1PreparedStatement
  for (const method of ['run', 'all', 'raw', 'first'] as const)
    vi.spyOn(statement, method).mockImplementation(lose)
  vi.spyOn(Object.getPrototypeOf(env.DB) as D1Database, 'batch').mockImplementation(lose)
  vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => void vi.restoreAllMocks())
}
