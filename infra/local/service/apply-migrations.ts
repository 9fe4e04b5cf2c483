import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, globSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { openLog } from '../processes/log-file.ts'
import { StartError } from '../processes/start-error.ts'
import { lastLines } from '../processes/supervise.ts'
import { readStamp } from '../toolchain/read-stamp.ts'
import type { Home } from './home.ts'
import type { DatabaseToMigrate } from './migrate-database.ts'
import type { Settings } from './service-settings.ts'

/** The folder of the D1 databases. Each is a file in a folder of it that workerd names. */
const DATABASES = 'd1'
/** The file that holds the {@link migrationsHash} of what the database was migrated by. It counts only beside a database. */
const STAMP = join(DATABASES, 'migrations.sha256')
/** The stamp of older versions, which stayed where the database was deleted. */
const OLD_STAMP = 'migrations.sha256'

/**
 * Migrates the local D1 database to the schema of this checkout.
 *
 * @throws StartError with the end of the log
 */
export async function applyMigrations(
  { root }: Pick<Settings, 'root'>,
  home: Home,
  signal: AbortSignal,
): Promise<void> {
  const applied = migrationsHash(root)
  // Avoids a process of seconds.
  const stamp = join(gatewayState(home), STAMP)
  mkdirSync(dirname(stamp), { recursive: true })
  rmSync(join(home.stateDir, OLD_STAMP), { force: true })
  if (hasDatabase(home) && readStamp(stamp) === applied) return
  const log = openLog(home.gatewayLogPath)
  const database: DatabaseToMigrate = { root, stateDir: gatewayState(home) }
  const program = join(import.meta.dirname, 'migrate-database.ts')
  const child = spawn(process.execPath, [program, JSON.stringify(database)], {
    cwd: root,
    stdio: ['ignore', log, log],
    signal,
  })
  closeSync(log)
  const [code] = (await once(child, 'exit')) as [number | null]
  if (code !== 0) {
    throw new StartError(
      `The database migrations failed. If this home was created by an older version of copal, set COPAL_HOME to a new folder. ` +
        `The log ${home.gatewayLogPath} ends:\n${lastLines(home.gatewayLogPath, 12)}`,
    )
  }
  writeFileSync(stamp, applied)
}

function hasDatabase(home: Home): boolean {
  const files = globSync(join('*', '*.sqlite'), { cwd: join(gatewayState(home), DATABASES) })
  return files.some((file) => basename(file) !== 'metadata.sqlite')
}

/** Returns the folder of the gateway's databases and files. Wrangler names it so. */
export function gatewayState(home: Pick<Home, 'stateDir'>): string {
  return join(home.stateDir, 'v3')
}

/** Returns the SHA-256, hexadecimal, of the migrations of a checkout. */
export function migrationsHash(root: string): string {
  const dir = join(root, 'migrations')
  const hash = createHash('sha256')
  for (const name of readdirSync(dir)
    .filter((file) => file.endsWith('.sql'))
    .toSorted()) {
    hash.update(`${name}\n`).update(readFileSync(join(dir, name)))
  }
  return hash.digest('hex')
}
