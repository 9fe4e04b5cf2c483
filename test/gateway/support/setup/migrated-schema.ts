import { DatabaseSync } from 'node:sqlite'
import type { D1Migration } from '@cloudflare/vitest-plugin'

/**
 * Returns the statements that make a database as all migrations together leave an empty one. Each test file begins
 * with a database that is made in one call instead of one for every migration.
 */
export function migratedSchema(migrations: readonly D1Migration[]): string[] {
  const database = new DatabaseSync(':memory:')
  database.exec(
    'create table "d1_migrations" (id integer primary key autoincrement, name text unique, applied_at timestamp default current_timestamp not null)',
  )
  for (const { name, queries } of migrations) {
    for (const query of queries) database.exec(query)
    database.prepare('insert into "d1_migrations" (name) values (?)').run(name)
  }
  const isTable = "type = 'table' and name not like 'sqlite%'"
  const tables = textsOf(database, `select name as text from sqlite_schema where ${isTable} order by rowid`)
  const statements = [
    ...textsOf(database, `select sql as text from sqlite_schema where ${isTable} order by rowid`),
    ...tables.flatMap((table) => rowsOf(database, table)),
    // Last, because triggers would run for the rows.
    ...textsOf(
      database,
      `select sql as text from sqlite_schema where type <> 'table' and sql is not null order by type, rowid`,
    ),
  ]
  database.close()
  return statements
}

/** Returns the statements that insert the rows of a table. */
function rowsOf(database: DatabaseSync, table: string): string[] {
  const columns = textsOf(database, `select name as text from pragma_table_info('${table}') order by cid`)
  const values = columns.map((column) => `quote("${column}")`).join(` || ',' || `)
  return textsOf(
    database,
    `select 'insert into "${table}" values (' || ${values} || ')' as text from "${table}"`,
  )
}

function textsOf(database: DatabaseSync, query: string): string[] {
  return database
    .prepare(query)
    .all()
    .map(({ text }) => String(text))
}
