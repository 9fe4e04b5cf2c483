import { sql, type SQL, type SQLWrapper } from 'drizzle-orm'

/** Returns a column of the rows in a parameter, which is a JSON list of objects. */
export const jsonColumn = (name: string): SQL => sql.raw(`json_extract(value, '$.${name}')`)

/** Returns columns of such rows, in the order of their names. */
export const jsonColumns = (...names: string[]): SQL => sql.join(names.map(jsonColumn), sql`, `)

/** Returns a JSON object in a column after a patch: null removes a member, undefined keeps it (RFC 7396). */
export const patchedColumn = (column: SQLWrapper, patch: object): SQL =>
  sql`json_patch(${column}, ${JSON.stringify(patch)})`
