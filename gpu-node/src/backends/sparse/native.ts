import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Addon } from '../../../native/addon.d.ts'

const PACKAGE = join(import.meta.dirname, '..', '..', '..')

/** What an addon of these sources has. */
const FUNCTIONS = [
  'kernels',
  'pack',
  'swapRows',
  'createVocabulary',
  'Multiplier',
  'Sampler',
] as const satisfies (keyof Addon)[]

/** A file that was tried, and why it is not the addon. */
export interface Attempt {
  path: string
  reason: string
}

/** The addon is not there, or not one that fits. The message says what was tried and what to do. */
export class NativeUnavailableError extends Error {
  override readonly name = 'NativeUnavailableError'
  readonly attempts: readonly Attempt[]

  constructor(attempts: readonly Attempt[]) {
    const tried = attempts.map(({ path, reason }) => `${path}: ${reason}`).join('; ')
    super(
      `The native addon is not available (${tried}). Build it with 'node infra/local/build-native.mjs', which needs cargo.`,
    )
    this.attempts = attempts
  }
}

/** Where the build puts the addon for this platform. */
export function addonPath(packageDir = PACKAGE): string {
  return join(packageDir, 'native', `copal.${process.platform}-${process.arch}.node`)
}

/**
 * Loads the Rust addon.
 *
 * The first of `paths` that loads and has this package's version is taken; whatever was wrong with those
 * before it is told only when none is left.
 *
 * @throws {NativeUnavailableError} when none of them fits
 */
export function loadNative(paths: readonly string[] = [addonPath()]): Addon {
  const wanted = packageVersion()
  const attempts: Attempt[] = []
  for (const path of paths) {
    const addon = tryLoad(path)
    if (typeof addon === 'string') {
      attempts.push({ path, reason: addon })
      continue
    }
    const found = addon.version()
    if (found === wanted) return addon
    attempts.push({ path, reason: `it is of version ${found}, this package is ${wanted}` })
  }
  throw new NativeUnavailableError(attempts)
}

/** The addon, or why it is none. */
function tryLoad(path: string): Addon | string {
  const module: { exports: Partial<Addon> } = { exports: {} }
  try {
    process.dlopen(module, path)
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    return /no such file/i.test(message) || /cannot find/i.test(message) ? 'it is not built' : message
  }
  return asAddon(module.exports)
}

/** What a library exports as the addon, or why it is none of these sources. */
export function asAddon(exports: Partial<Addon>): Addon | string {
  if (typeof exports.version !== 'function') return 'it is another addon'
  const missing = FUNCTIONS.filter((name) => typeof exports[name] !== 'function')
  return missing.length === 0 ? (exports as Addon) : `it is of other sources, without ${missing.join(', ')}`
}

/** As {@link loadNative}; `undefined` where there is no addon, for work that JavaScript can do too. */
export function loadNativeIfThere(): Addon | undefined {
  try {
    return loadNative()
  } catch (error) {
    if (error instanceof NativeUnavailableError) return undefined
    throw error
  }
}

function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8')) as { version: string }
  return version
}
