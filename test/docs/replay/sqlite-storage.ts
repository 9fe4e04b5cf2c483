import { DatabaseSync, type SQLInputValue } from 'node:sqlite'

/** Returns a Durable Object's storage, as much of it as a reservoir uses, over SQLite in memory. */
export function sqliteStorage(): object {
  const database = new DatabaseSync(':memory:')
  const exec = (query: string, ...bindings: (SQLInputValue | ArrayBuffer)[]) => {
    const values = bindings.map((value) => (value instanceof ArrayBuffer ? new Uint8Array(value) : value))
    if (values.length === 0 && query.trim().startsWith('CREATE')) {
      database.exec(query)
      return cursor([], 0)
    }
    const statement = database.prepare(query)
    if (statement.columns().length > 0) return cursor(statement.all(...values), 0)
    return cursor([], Number(statement.run(...values).changes))
  }
  const transactionSync = <T>(run: () => T): T => {
    database.exec('BEGIN')
    try {
      const result = run()
      database.exec('COMMIT')
      return result
    } catch (error) {
      database.exec('ROLLBACK')
      throw error
    }
  }
  return { sql: { exec }, transactionSync }
}

function cursor(rows: unknown[], rowsWritten: number) {
  return {
    toArray: () => rows,
    one: () => rows[0],
    rowsWritten,
    [Symbol.iterator]: () => rows[Symbol.iterator](),
  }
}
