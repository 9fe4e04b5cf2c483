import { existsSync, statSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'

/** Returns an absolute path itself, or its nearest ancestor that exists. */
export function nearestExisting(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : nearestExisting(dirname(path))
}

/** Returns whether an existing path is a folder. */
export function isFolder(path: string): boolean {
  return statSync(path).isDirectory()
}

/** Formats a path for messages: relative to `cwd` where it lies below. */
export function tellPath(path: string, cwd: string): string {
  const full = resolve(cwd, path)
  const below = relative(cwd, full)
  return below === '' || below.startsWith('..') ? full : below
}
