import { globSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gatewayState } from './apply-migrations.ts'
import type { Home } from './home.ts'

/** The databases of reservoirs. workerd names the folder so. */
const RESERVOIRS = join('do', 'copal-Reservoir')
/** workerd's own file among them, which has no texts. */
const ALARMS = 'metadata.sqlite'
/** The file, in the state folder, that has what each database was like when it had been wiped. */
const WIPED = 'wiped-reservoirs.json'

/** The {@link stampOf} of each database, by the name of its file. */
type Stamps = Record<string, string>

/**
 * Rewrites the databases of reservoirs that have changed since it last did: SQLite leaves the bytes of deleted texts in the file until
 * it needs the room, and workerd allows a Worker no statement that changes that. Nothing else may have them open.
 *
 * @param print receives a line if that is not possible
 */
export async function wipeDeletedTexts(
  home: Pick<Home, 'stateDir'>,
  print: (line: string) => void,
): Promise<void> {
  const folder = join(gatewayState(home), RESERVOIRS)
  const stampsPath = join(home.stateDir, WIPED)
  const names = globSync('*.sqlite', { cwd: folder }).filter((name) => name !== ALARMS)
  const before = readStamps(stampsPath)
  const changed = names.filter((name) => before[name] !== stampOf(join(folder, name)))
  if (changed.length === 0) return
  const failures = new Map<string, unknown>()
  // Node has it without a flag since 22.13.
  const sqlite = await import('node:sqlite').catch(() => undefined)
  for (const name of changed) {
    try {
      if (!sqlite) throw new Error('this version of Node has no SQLite')
      const database = new sqlite.DatabaseSync(join(folder, name))
      try {
        database.exec('VACUUM')
      } finally {
        database.close()
      }
    } catch (error) {
      failures.set(name, error)
    }
  }
  const wiped = names.filter((name) => !failures.has(name))
  const stamps: Stamps = Object.fromEntries(wiped.map((name) => [name, stampOf(join(folder, name))]))
  try {
    writeFileSync(stampsPath, JSON.stringify(stamps))
  } catch {
    // The next start rewrites them once more.
  }
  const [first] = failures.values()
  if (failures.size > 0)
    print(
      `Bytes of deleted texts may still be in ${failures.size} of ${names.length} files of ${folder}, which could not be rewritten: ` +
        (first instanceof Error ? first.message : String(first)),
    )
}

/** Returns what a change of a database changes: its size and time, and those of its log, which exists if workerd did not close it. */
function stampOf(path: string): string {
  return [path, `${path}-wal`]
    .map((file) => statSync(file, { throwIfNoEntry: false }))
    .map((found) => (found && found.size > 0 ? `${found.size} ${found.mtimeMs}` : ''))
    .join(' ')
}

function readStamps(path: string): Stamps {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Stamps
  } catch {
    return {}
  }
}
