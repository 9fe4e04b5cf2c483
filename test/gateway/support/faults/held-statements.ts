import { env } from 'cloudflare:workers'

/** A database that executes some statements only once it is told to. */
export interface HeldStatements {
  database: D1Database
  /** Resolves once a statement waits. */
  waiting: Promise<void>
  release: () => void
}

/** Returns a database in which statements that match wait until they are released. */
export function holdStatements(pattern: RegExp): HeldStatements {
  const waiting = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  const originals = new WeakMap<D1PreparedStatement, D1PreparedStatement>()
  const texts = new WeakMap<D1PreparedStatement, string>()
  const hold = async (all: readonly D1PreparedStatement[]) => {
    if (!all.some((statement) => pattern.test(texts.get(statement) ?? ''))) return
    waiting.resolve()
    await released.promise
  }
  const wrap = (original: D1PreparedStatement, text: string): D1PreparedStatement => {
    const wrapped: D1PreparedStatement = new Proxy(original, {
      get(statement, name: keyof D1PreparedStatement) {
        if (name === 'bind') return (...values: unknown[]) => wrap(statement.bind(...values), text)
        const method = statement[name] as (...values: unknown[]) => unknown
        return async (...values: unknown[]) => {
          await hold([wrapped])
          return method.apply(statement, values)
        }
      },
    })
    originals.set(wrapped, original)
    texts.set(wrapped, text)
    return wrapped
  }
  const database = new Proxy(env.DB, {
    get(target, name: keyof D1Database) {
      if (name === 'prepare') return (text: string) => wrap(target.prepare(text), text)
      if (name !== 'batch') return target[name].bind(target)
      return async (all: D1PreparedStatement[]) => {
        await hold(all)
        return target.batch(all.map((each) => originals.get(each) ?? each))
      }
    },
  })
  return { database, waiting: waiting.promise, release: released.resolve }
}
