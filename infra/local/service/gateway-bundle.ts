import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { ensureDashboard } from '../dashboard/ensure-dashboard.ts'
import { StartError } from '../processes/start-error.ts'
import { runWrangler } from '../toolchain/run-wrangler.ts'

/** What the Worker is bundled from, in the checkout. Older checkouts have no dashboard. */
const SOURCES = [
  'package-lock.json',
  'wrangler.toml',
  'gateway/src',
  'gateway/dashboard/built-files.mjs',
  'shared/src',
]
/** Bundles of sources that are no more stay for a day, in case a process is about to read one. */
const KEPT_MS = 24 * 60 * 60 * 1000

/** Files of a built Worker. */
export interface GatewayBundle {
  scriptPath: string
  /** The Worker's options for Miniflare, as JSON, from `wrangler.toml`. */
  optionsPath: string
}

/**
 * Builds the Worker of a checkout, unless its sources are those of an earlier build: Wrangler takes seconds.
 *
 * @throws StartError with Wrangler's output
 */
export async function gatewayBundle(root: string): Promise<GatewayBundle> {
  // It is one of the sources. A start reports its errors.
  ensureDashboard(root)
  const folder = join(root, 'node_modules', '.cache', `gateway-${sourcesHash(root)}`)
  if (!isComplete(folder)) {
    await build(root, folder)
    removeOld(folder)
  }
  return filesIn(folder)
}

/** Copies a built Worker to a folder, where no later build removes it. */
export function keepBundle(bundle: GatewayBundle, folder: string): GatewayBundle {
  mkdirSync(folder, { recursive: true })
  const kept = filesIn(folder)
  copyFileSync(bundle.scriptPath, kept.scriptPath)
  copyFileSync(bundle.optionsPath, kept.optionsPath)
  return kept
}

function filesIn(folder: string): GatewayBundle {
  return { scriptPath: join(folder, 'index.js'), optionsPath: join(folder, 'options.json') }
}

function isComplete(folder: string): boolean {
  const { scriptPath, optionsPath } = filesIn(folder)
  return existsSync(scriptPath) && existsSync(optionsPath)
}

/** Builds into a folder. If several processes do so at once, the folder of the first one to finish stays. */
async function build(root: string, folder: string): Promise<void> {
  mkdirSync(dirname(folder), { recursive: true })
  const made = mkdtempSync(`${folder}-`)
  try {
    const args = ['deploy', '--dry-run', '--outdir', made]
    const { exitCode, output } = await runWrangler(args, { terminal: false, root })
    // An interrupted Wrangler exits with 0 too.
    if (exitCode !== 0 || !existsSync(filesIn(made).scriptPath))
      throw new StartError(`The gateway cannot be bundled:\n${output.trim() || 'Wrangler ended too early.'}`)
    // Takes a second to load, which later starts do without.
    const { unstable_getMiniflareWorkerOptions: optionsOf } = await import('wrangler')
    const { modulesRules: _, ...options } = optionsOf(join(root, 'wrangler.toml')).workerOptions
    writeFileSync(filesIn(made).optionsPath, JSON.stringify(options))
    publish(made, folder)
  } finally {
    rmSync(made, { recursive: true, force: true })
  }
}

/** Gives a built folder its name, unless another process did so before. */
function publish(made: string, folder: string): void {
  try {
    renameSync(made, folder)
  } catch {
    if (isComplete(folder)) return
    // Earlier versions kept what an interrupted build had left.
    rmSync(folder, { recursive: true, force: true })
    renameSync(made, folder)
  }
}

function removeOld(folder: string): void {
  const parent = dirname(folder)
  for (const name of readdirSync(parent)) {
    const path = join(parent, name)
    if (!/^(copal-)?gateway-/.test(name) || path === folder) continue
    if (Date.now() - statSync(path).mtimeMs > KEPT_MS) rmSync(path, { recursive: true, force: true })
  }
}

function sourcesHash(root: string): string {
  const hash = createHash('sha256')
  const add = (path: string): void => {
    const content = readFileSync(join(root, path))
    hash.update(`${path}\n${content.length}\n`).update(content)
  }
  for (const source of SOURCES.filter((path) => existsSync(join(root, path)))) {
    if (/\.\w+$/.test(source)) add(source)
    else
      for (const entry of readdirSync(join(root, source), { recursive: true, withFileTypes: true }))
        if (entry.isFile()) add(join(entry.parentPath, entry.name).slice(root.length + 1))
  }
  return hash.digest('hex').slice(0, 16)
}
