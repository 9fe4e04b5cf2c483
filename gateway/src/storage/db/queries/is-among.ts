import { inArray, sql, type SQL } from 'drizzle-orm'
import type { SQLiteColumn } from 'drizzle-orm/sqlite-core'

/** Returns whether a column has one of some values, all in one parameter, because a statement has at most 100. */
export function isAmong(column: SQLiteColumn, values: readonly (string | number)[]): SQL {
  return inArray(column, sql`(select value from json_each(${JSON.stringify(values)}))`)
}
