import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { openLog } from '../processes/log-file.ts'
import { StartError } from '../processes/start-error.ts'
import { lastLines } from '../processes/supervise.ts'
import { readStamp } from '../toolchain/read-stamp.ts'
import type { Home } from './home.ts'
import type { DatabaseToMigrate } from './migrate-database.ts'
import type { Settings } from './service-settings.ts'

/**
 * The file that holds the {@link migrationsHash} of what the database was migrated by. It is in the database's folder, so that
 * both are deleted together.
 */
const STAMP = join('d1', 'migrations.sha256')

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
  if (readStamp(stamp) === applied) return
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
