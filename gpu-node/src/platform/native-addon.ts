import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Addon, AddonErrorCode } from '../../native/addon.d.ts'
import { sourceHash } from '../../native/source-hash.mjs'

const CRATE = join(import.meta.dirname, '..', '..', 'native')

/** A file that was tried, and the reason why it is not the addon. */
export interface Attempt {
  path: string
  reason: string
}

/** Thrown when no fitting addon was found. The message lists the files that were tried and what to do. */
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

/** Path of the addon that the build writes for this platform. */
export function addonPath(): string {
  return join(CRATE, `copal.${process.platform}-${process.arch}.node`)
}

/** The addon of this process, which keeps it when sources change on disk: a process loads a library once. */
let loaded: Addon | undefined

/**
 * Loads the Rust addon, or returns the one that this process has loaded.
 *
 * Takes the first of `paths` that loads and was built from the sources beside it. The failures of the others are reported
 * only when none fits.
 *
 * @param paths files to try in any case; by default the file that the build writes
 * @throws {NativeUnavailableError} when none of them fits
 */
export function loadNative(paths?: readonly string[]): Addon {
  return paths ? load(paths) : (loaded ??= load([addonPath()]))
}

function load(paths: readonly string[]): Addon {
  const wanted = sourceHash(CRATE)
  const attempts: Attempt[] = []
  for (const path of paths) {
    const library: Library<Addon> = { exports: {} }
    const addon = loadAddonInto(library, path, wanted)
    if (typeof addon !== 'string') return addon
    attempts.push({ path, reason: addon })
  }
  throw new NativeUnavailableError(attempts)
}

/** An addon that knows the hash of the sources from which it was built. */
interface HashedAddon {
  sourceHash(): string
}

/** A module that Node loads a library into. */
export interface Library<Exports extends HashedAddon> {
  exports: Partial<Exports>
}

/** Loads an addon. Returns the reason if a file is not one, or was not built from the sources with hash `wanted`. */
export function loadAddonInto<Exports extends HashedAddon>(
  library: Library<Exports>,
  path: string,
  wanted: string,
): Exports | string {
  if (!existsSync(path)) return 'it is not built'
  try {
    process.dlopen(library, path)
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
  return asAddon(library.exports, wanted)
}

/** Returns the addon that a library exports, or the reason why it was not built from the sources with hash `wanted`. */
export function asAddon<Exports extends HashedAddon>(
  exports: Partial<Exports>,
  wanted: string,
): Exports | string {
  return exports.sourceHash?.() === wanted ? (exports as Exports) : 'it is built of other sources'
}

/** Like {@link loadNative}, but returns `undefined` without an addon, for work that JavaScript can do as well. */
export function loadNativeIfThere(): Addon | undefined {
  try {
    return loadNative()
  } catch (error) {
    if (error instanceof NativeUnavailableError) return undefined
    throw error
  }
}

/** Returns the code of an error that an addon threw, or that another process passed on; else `undefined`. */
export function addonErrorCode(thrown: unknown): AddonErrorCode | undefined {
  const code = (thrown as { code?: unknown } | null | undefined)?.code
  return typeof code === 'string' ? (code as AddonErrorCode) : undefined
}
