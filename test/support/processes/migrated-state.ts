import { cpSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { applyMigrations, migrationsHash } from '../../../infra/local/service/apply-migrations.ts'
import { openHome, type Home } from '../../../infra/local/service/home.ts'
import type { Settings } from '../../../infra/local/service/service-settings.ts'

/** Gives a new home the migrated local database. The migrations run once for all tests, and each home gets a copy. */
export async function copyMigratedState(settings: Pick<Settings, 'root'>, home: Home): Promise<void> {
  const template = join(
    settings.root,
    'node_modules',
    '.cache',
    `copal-migrated-${migrationsHash(settings.root)}`,
  )
  if (!existsSync(template)) await makeTemplate(settings, template)
  cpSync(template, home.stateDir, { recursive: true })
}

/** Makes the template. If several processes do so at once, the template of the first one to finish stays. */
async function makeTemplate(settings: Pick<Settings, 'root'>, template: string): Promise<void> {
  mkdirSync(dirname(template), { recursive: true })
  const dir = mkdtempSync(`${template}-`)
  try {
    const home = openHome(dir)
    await applyMigrations(settings, home, AbortSignal.timeout(500_000))
    renameSync(home.stateDir, template)
  } catch (error) {
    if (!existsSync(template)) throw error
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}
