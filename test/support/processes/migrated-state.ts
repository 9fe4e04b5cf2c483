import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { convertV4MiniflareOptions, Miniflare } from 'miniflare'
import { gatewayBundle } from '../../../infra/local/service/gateway-bundle.ts'
import { MIGRATIONS_STAMP, migrationsHash } from '../../../infra/local/service/gateway-process.ts'
import type { Home } from '../../../infra/local/service/home.ts'
import type { Settings } from '../../../infra/local/service/service-settings.ts'
import { WORKER_NAME } from '../../../infra/local/service/worker-options.ts'
import { migratedSchema } from '../../gateway/support/setup/migrated-schema.ts'

/**
 * Gives a new home the migrated local database. It is made once for all tests, and each home gets a copy. Wrangler starts a
 * process for every migration, which `start.test.ts` has it do.
 */
export async function copyMigratedState({ root }: Settings, home: Home): Promise<void> {
  const hash = migrationsHash(root)
  const template = join(root, 'node_modules', '.cache', `copal-state-d1-${hash.slice(0, 16)}`)
  if (!existsSync(template)) await makeTemplate(root, hash, template)
  cpSync(template, home.stateDir, { recursive: true })
}

/** Makes the template. If several processes do so at once, the template of the first one to finish stays. */
async function makeTemplate(root: string, hash: string, template: string): Promise<void> {
  mkdirSync(dirname(template), { recursive: true })
  const dir = mkdtempSync(`${template}-`)
  try {
    await makeDatabase(root, join(dir, 'v3'))
    writeFileSync(join(dir, MIGRATIONS_STAMP), hash)
    renameSync(dir, template)
  } catch (error) {
    if (!existsSync(template)) throw error
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Makes the database that all migrations leave, in the folder of the gateway's databases. */
async function makeDatabase(root: string, folder: string): Promise<void> {
  const { optionsPath } = await gatewayBundle(root)
  const { d1Databases, compatibilityDate } = JSON.parse(readFileSync(optionsPath, 'utf8')) as {
    d1Databases: Record<string, { id: string }>
    compatibilityDate: string
  }
  const migrations = globSync(join(root, 'migrations', '*.sql'))
    .toSorted()
    .map((path) => ({ name: basename(path), queries: [readFileSync(path, 'utf8')] }))
  const gateway = new Miniflare(
    convertV4MiniflareOptions({
      name: WORKER_NAME,
      modules: [{ type: 'ESModule', path: 'index.js', contents: 'export default {}' }],
      compatibilityDate,
      d1Databases,
      resourcePersistencePath: folder,
      cf: false,
    }),
  )
  try {
    const database = await gateway.getD1Database('DB')
    await database.batch(migratedSchema(migrations).map((statement) => database.prepare(statement)))
  } finally {
    await gateway.dispose()
  }
}
