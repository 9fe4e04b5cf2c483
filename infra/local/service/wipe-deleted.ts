import { globSync } from 'node:fs'
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { gatewayState } from './apply-migrations.ts'
import type { Home } from './home.ts'

/** The databases of reservoirs. workerd names the folder so. */
const RESERVOIRS = join('do', 'copal-Reservoir', '*.sqlite')

/**
 * Rewrites the databases of reservoirs from which texts were deleted or have expired: SQLite leaves their bytes in the file until
 * it needs the room, and workerd allows a Worker no statement that changes that. Nothing else may have them open.
 */
export async function wipeDeletedTexts(home: Pick<Home, 'stateDir'>): Promise<void> {
  const sqlite = await import('node:sqlite').catch(() => undefined)
  // Node 22.12, which macOS may have, has it only behind a flag.
  if (!sqlite) return
  const folder = gatewayState(home)
  for (const name of globSync(RESERVOIRS, { cwd: folder })) {
    try {
      const database = new sqlite.DatabaseSync(join(folder, name))
      try {
        if (mayHoldDeleted(database)) database.exec('VACUUM')
      } finally {
        database.close()
      }
    } catch {
      // A full disk or a damaged file: the start goes on, and workerd says what is wrong with it.
    }
  }
}

function mayHoldDeleted(database: DatabaseSync): boolean {
  const has = (query: string) => database.prepare(query).get() !== undefined
  return (
    has('SELECT 1 FROM pragma_freelist_count WHERE freelist_count > 0') ||
    (has("SELECT 1 FROM sqlite_master WHERE name = 'deletions'") && has('SELECT 1 FROM deletions'))
  )
}
