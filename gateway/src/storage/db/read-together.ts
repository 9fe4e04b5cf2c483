import type { Database } from '../../contracts/database.ts'
import { openDatabase } from './open-database.ts'

/** A statement whose result names only columns. */
const OF_COLUMNS = /^select (?:distinct )?((?:(?:"\w+"\.)?"\w+"(?:, )?)+) from /

/**
 * Returns whether the columns of a result have different names, by which D1 returns those of a batch. Of two tables that are joined
 * some may have the same.
 */
function hasNames(query: string): boolean {
  const names = OF_COLUMNS.exec(query)?.[1]
    ?.split(', ')
    .map((column) => column.split('.').at(-1))
  return names !== undefined && new Set(names).size === names.length
}

/**
 * Runs reads that do not need each other's results in one call of D1, where each alone is a round trip of milliseconds. The first
 * statement of each is in it; what a read asks later is a call of its own, and so is a result of which two columns may have one name.
 *
 * @param read starts the reads with the database that it is given, and awaits none
 */
export async function readTogether<const Reads extends readonly unknown[]>(
  { $client: client }: Database,
  read: (db: Database) => Reads,
): Promise<{ -readonly [Index in keyof Reads]: Awaited<Reads[Index]> }> {
  const waiting: { statement: D1PreparedStatement; result: PromiseWithResolvers<D1Result> }[] = []
  let isCollecting = true
  const run = (statement: D1PreparedStatement): Promise<D1Result> => {
    if (!isCollecting) return statement.all()
    const result = Promise.withResolvers<D1Result>()
    waiting.push({ statement, result })
    return result.promise
  }
  const collect = (query: string, statement: D1PreparedStatement): object => ({
    bind: (...values: unknown[]) => collect(query, statement.bind(...values)),
    all: () => run(statement),
    raw: async () =>
      hasNames(query)
        ? (await run(statement)).results.map((row) => Object.values(row as object))
        : statement.raw(),
  })
  const collector = { prepare: (query: string) => collect(query, client.prepare(query)) } as D1Database
  const values = Promise.all(read(openDatabase(collector)))
  // It is returned; one that fails early must not count as unhandled until then.
  values.catch(() => undefined)
  // All microtasks run before the next event, and nothing else stands between the reads and their first statements.
  await scheduler.wait(0)
  isCollecting = false
  try {
    const results = waiting.length > 0 ? await client.batch(waiting.map(({ statement }) => statement)) : []
    for (const [index, { result }] of waiting.entries()) result.resolve(results[index] as D1Result)
  } catch (error) {
    for (const { result } of waiting) result.reject(error)
  }
  return values
}
