import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { applyMigrations } from '../../../infra/local/service/gateway-process.ts'
import { openHome, type Home } from '../../../infra/local/service/home.ts'
import type { Settings } from '../../../infra/local/service/service-settings.ts'

/**
 * Gives a new home the migrated local database. Wrangler takes seconds to run the migrations, so they run once for all
 * tests, and each home gets a copy of the result.
 */
export async function copyMigratedState(settings: Settings, home: Home): Promise<void> {
  const template = join(settings.root, 'node_modules', '.cache', `copal-state-${migrationsHash(settings)}`)
  if (!existsSync(template)) await makeTemplate(settings, template)
  cpSync(template, home.stateDir, { recursive: true })
}

/** Makes the template. If several processes do so at once, the template of the first one to finish stays. */
async function makeTemplate(settings: Settings, template: string): Promise<void> {
  mkdirSync(dirname(template), { recursive: true })
  const dir = mkdtempSync(`${template}-`)
  try {
    const home = openHome(dir)
    await applyMigrations({ ...settings, home: dir }, home, AbortSignal.timeout(500_000))
    renameSync(home.stateDir, template)
  } catch (error) {
    if (!existsSync(template)) throw error
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

function migrationsHash({ root }: Settings): string {
  const dir = join(root, 'migrations')
  const hash = createHash('sha256')
  for (const name of readdirSync(dir, { recursive: true, encoding: 'utf8' }).toSorted())
    if (name.endsWith('.sql')) hash.update(`${name}\n`).update(readFileSync(join(dir, name)))
  return hash.digest('hex').slice(0, 16)
}
