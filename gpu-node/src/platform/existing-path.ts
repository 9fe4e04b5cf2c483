import { existsSync, statSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'

/** An absolute path itself, or the lowest folder or file above it that exists. */
export function nearestExisting(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : nearestExisting(dirname(path))
}

/** Whether an existing path is a folder. */
export function isFolder(path: string): boolean {
  return statSync(path).isDirectory()
}

/** A path for people: from `cwd` where it lies below that. */
export function tellPath(path: string, cwd: string): string {
  const full = resolve(cwd, path)
  const below = relative(cwd, full)
  return below === '' || below.startsWith('..') ? full : below
}
