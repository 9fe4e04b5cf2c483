/** Counts the rows that D1 reads and writes. */

/** A database, and how many rows its statements have read and written, entries of indexes included. */
export interface CountedDatabase {
  binding: D1Database
  rowsRead(): number
  rowsWritten(): number
}

/** Wraps a binding so that the rows that its statements read and write are added up. Statements that return rows as arrays run twice. */
export function countRows(inner: D1Database): CountedDatabase {
  let rows = 0
  let written = 0
  const count = <T extends { meta: D1Meta }>(result: T): T => {
    rows += result.meta.rows_read
    written += result.meta.rows_written
    return result
  }
  const wrapped = new WeakMap<object, D1PreparedStatement>()
  const wrap = (statement: D1PreparedStatement): D1PreparedStatement => {
    const outer = new Proxy(statement, {
      get(target, name) {
        if (name === 'bind') return (...values: unknown[]) => wrap(target.bind(...values))
        if (name === 'all') return async () => count(await target.all())
        if (name === 'run') return async () => count(await target.run())
        if (name === 'raw')
          return async () => {
            count(await target.all())
            return target.raw()
          }
        throw new TypeError(`rows of '${String(name)}' are not counted`)
      },
    })
    wrapped.set(outer, statement)
    return outer
  }
  const binding = new Proxy(inner, {
    get(target, name) {
      if (name === 'prepare') return (query: string) => wrap(target.prepare(query))
      if (name === 'batch')
        return async (statements: D1PreparedStatement[]) => {
          const results = await target.batch(statements.map((each) => wrapped.get(each) ?? each))
          return results.map(count)
        }
      throw new TypeError(`rows of '${String(name)}' are not counted`)
    },
  })
  return { binding, rowsRead: () => rows, rowsWritten: () => written }
}
