import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { runWrangler } from '../../../infra/deploy/wrangler.ts'
import { ensureDashboard } from '../../../infra/local/dashboard/ensure-dashboard.ts'

/** What the Worker is bundled from, in the checkout. */
const SOURCES = [
  'package-lock.json',
  'wrangler.toml',
  'gateway/src',
  'gateway/dashboard/built-files.mjs',
  'shared/src',
]

/**
 * Returns the path of the built Worker of a checkout. Wrangler takes seconds to bundle it, so that is done once for all tests;
 * those that start the whole service bundle it as a user's start does.
 */
export async function gatewayBundle(root: string): Promise<string> {
  ensureDashboard(root)
  const folder = join(root, 'node_modules', '.cache', `copal-gateway-${sourcesHash(root)}`)
  if (!existsSync(folder)) await build(root, folder)
  return join(folder, 'index.js')
}

/** Builds into a folder. If several processes do so at once, the folder of the first one to finish stays. */
async function build(root: string, folder: string): Promise<void> {
  mkdirSync(dirname(folder), { recursive: true })
  const made = mkdtempSync(`${folder}-`)
  try {
    const args = ['deploy', '--dry-run', '--outdir', made]
    const { exitCode, output } = await runWrangler(args, { terminal: false, root })
    if (exitCode !== 0) throw new Error(`The Worker cannot be bundled:\n${output}`)
    renameSync(made, folder)
  } catch (error) {
    if (!existsSync(folder)) throw error
  } finally {
    rmSync(made, { recursive: true, force: true })
  }
}

function sourcesHash(root: string): string {
  const hash = createHash('sha256')
  const add = (path: string): void => {
    const content = readFileSync(join(root, path))
    hash.update(`${path}\n${content.length}\n`).update(content)
  }
  for (const source of SOURCES) {
    if (/\.\w+$/.test(source)) add(source)
    else
      for (const entry of readdirSync(join(root, source), { recursive: true, withFileTypes: true }))
        if (entry.isFile()) add(join(entry.parentPath, entry.name).slice(root.length + 1))
  }
  return hash.digest('hex').slice(0, 16)
}
