import { sql, type SQL } from 'drizzle-orm'
import { toSnakeCase } from 'drizzle-orm/casing'

/** Returns the `set` of an upsert that adds columns of the inserted row to those of the existing one. */
export function addedColumns(names: readonly string[]): Record<string, SQL> {
  return Object.fromEntries(
    names.map((name) => [name, sql.raw(`${toSnakeCase(name)} + excluded.${toSnakeCase(name)}`)]),
  )
}
