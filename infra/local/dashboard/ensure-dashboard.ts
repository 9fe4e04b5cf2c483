import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { readStamp } from '../toolchain/read-stamp.ts'
import { ROOT } from '../toolchain/toolchain.mjs'

/** The module that `gateway/dashboard/build.mjs` writes. */
const MODULE = 'built-files.mjs'

/** The outcome: `error` is the output of a build that failed. */
export type DashboardBuild = { built: boolean; error?: undefined } | { error: string }

/**
 * Builds the dashboard if its sources have changed since the last build. Afterwards the module with the built files exists even if
 * the build failed, because the Worker imports it; without files the gateway serves a page that says so.
 *
 * @param root the checkout
 */
export function ensureDashboard(root: string = ROOT): DashboardBuild {
  const dir = join(root, 'gateway', 'dashboard')
  const module = join(dir, MODULE)
  const stamp = join(root, 'node_modules', '.cache', 'copal-dashboard.sha256')
  const hash = hashSources(root, dir)
  if (existsSync(module) && readStamp(stamp) === hash) return { built: false }
  const { status, signal, stdout, stderr, error } = spawnSync(process.execPath, [join(dir, 'build.mjs')], {
    cwd: root,
    encoding: 'utf8',
  })
  if (!existsSync(module)) writeFileSync(module, 'export const files = []\n')
  const ended = signal === null ? '' : `The build was ended by ${signal}.`
  if (status !== 0) return { error: error?.message ?? `${stdout}${stderr}${ended}`.trim() }
  mkdirSync(join(root, 'node_modules', '.cache'), { recursive: true })
  writeFileSync(stamp, hash)
  return { built: true }
}

/** Hashes everything that the built files depend on: the sources, what they import of `shared`, and the locked packages. */
function hashSources(root: string, dir: string): string {
  const hash = createHash('sha256')
  const files = [join(root, 'package-lock.json'), ...filesOf(dir), ...filesOf(join(root, 'shared', 'src'))]
  for (const file of files.toSorted()) {
    const content = readFileSync(file)
    hash.update(`${relative(root, file)}\n${content.length}\n`).update(content)
  }
  return hash.digest('hex')
}

function filesOf(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name)
    if (entry.isFile()) return entry.name.startsWith(MODULE) ? [] : [path]
    return entry.isDirectory() && !['dist', 'node_modules'].includes(entry.name) ? filesOf(path) : []
  })
}
