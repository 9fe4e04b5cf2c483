import { sql, type SQL } from 'drizzle-orm'

/** Returns a column of the rows in a parameter, which is a JSON list of objects. */
export const jsonColumn = (name: string): SQL => sql.raw(`json_extract(value, '$.${name}')`)

/** Returns columns of such rows, in the order of their names. */
export const jsonColumns = (...names: string[]): SQL => sql.join(names.map(jsonColumn), sql`, `)
