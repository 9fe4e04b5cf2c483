import { env } from 'cloudflare:workers'
import { vi } from 'vitest'

/**
 * Runs `work` as in a gateway that is killed: from the given call of the database on, no call is made.
 *
 * @returns whether the gateway was killed before the work was done
 */
export async function dieAtCall(call: number, work: () => Promise<unknown>): Promise<boolean> {
  let calls = 0
  let isDead = false
  const die = () => {
    calls += 1
    isDead ||= calls >= call
    return isDead
  }
  const database = Object.getPrototypeOf(env.DB) as D1Database
  const statement = Object.getPrototypeOf(env.DB.prepare('SELECT 1')) as D1PreparedStatement
  const spies = [
    ...(['run', 'all', 'raw', 'first'] as const).map((method) => dying(statement, method, die)),
    dying(database, 'batch', die),
  ]
  const log = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  try {
    await work()
  } catch (error) {
    if (!isDead) throw error
  } finally {
    for (const spy of [...spies, log]) spy.mockRestore()
  }
  return isDead
}

function dying<T extends object>(prototype: T, method: keyof T & string, die: () => boolean) {
  const original = Reflect.get(prototype, method) as (...args: unknown[]) => unknown
  return vi
    .spyOn(prototype as Record<string, (...args: unknown[]) => unknown>, method)
    .mockImplementation(function (this: unknown, ...args: unknown[]) {
      return die() ? Promise.reject(new Error('the gateway was killed')) : original.apply(this, args)
    })
}
