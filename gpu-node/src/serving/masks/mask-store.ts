import { openAsBlob } from 'node:fs'
import { readdir, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { DAY_MS } from '@copal/shared/day.ts'
import { AppError } from '@copal/shared/errors.ts'
import { createContentStore, type ContentStore } from '../../platform/content-store.ts'
import { reasonOf, type Log } from '../../platform/log.ts'

/** Age at which an unused mask is removed; longer than any job needs a mask after it asked for it. */
const MAX_UNUSED_MS = DAY_MS

/** Stores the mask files of a node as `<home>/masks/<sha256>.safetensors`; the gateway shares them with the fleet. */
export interface MaskStore extends ContentStore {
  /**
   * Uploads a mask to the gateway; repeating it is harmless.
   *
   * @throws AppError retryable when the gateway cannot be reached
   */
  upload(sha256: string, signal?: AbortSignal): Promise<void>
  /**
   * Removes the masks that were not used for a day, except those in `kept` (null is dense). The gateway holds every mask,
   * so a removed one is fetched again when it is needed. Failures are logged.
   */
  removeUnused(kept: readonly (string | null)[]): Promise<void>
}

/** Downloads masks from the gateway and uploads new ones; see `GatewayClient`. */
export interface MaskTransfer {
  download(
    kind: 'masks',
    sha256: string,
    maxBytes: number,
    signal?: AbortSignal,
  ): Promise<AsyncIterable<Uint8Array>>
  uploadMask(sha256: string, file: Blob, signal?: AbortSignal): Promise<void>
}

/**
 * Creates the mask store of a node.
 *
 * @param deps.maxBytes see `maxMaskFileBytes`
 */
export function createMaskStore(deps: {
  home: string
  maxBytes: number
  gateway: MaskTransfer
  log: Log
  nowMs?: () => number
}): MaskStore {
  const nowMs = deps.nowMs ?? Date.now
  const store = createContentStore({
    dir: join(deps.home, 'masks'),
    extension: '.safetensors',
    maxBytes: deps.maxBytes,
    fetch: (sha256, maxBytes, signal) => deps.gateway.download('masks', sha256, maxBytes, signal),
    mismatch: (sha256, actual) =>
      new AppError(
        'mask_invalid',
        `The mask file that the gateway sent for ${sha256} has the hash ${actual}. It was damaged and will be fetched again.`,
      ),
    onDamaged: (path) => deps.log.warn('a mask file was damaged on disk and is fetched again', { path }),
  })
  /** Number of `ensure` calls by mask. A mask that is being verified must not be removed. */
  const inUse = new Map<string, number>()
  let removing = Promise.resolve()

  async function ensure(sha256: string, signal?: AbortSignal): Promise<string> {
    inUse.set(sha256, (inUse.get(sha256) ?? 0) + 1)
    try {
      await removing
      const path = await store.ensure(sha256, signal)
      const now = new Date(nowMs())
      // Records the use. A file whose time cannot be set is only removed earlier.
      await utimes(path, now, now).catch(() => undefined)
      return path
    } finally {
      const others = (inUse.get(sha256) ?? 1) - 1
      if (others > 0) inUse.set(sha256, others)
      else inUse.delete(sha256)
    }
  }

  async function removeUnused(kept: readonly (string | null)[]): Promise<void> {
    const names = await readdir(store.dir).catch(() => [])
    for (const name of names) {
      const sha256 = /^([0-9a-f]{64})\.safetensors$/.exec(name)?.[1]
      // Calls of `ensure` from here on wait until the removal is done.
      if (sha256 === undefined || kept.includes(sha256) || inUse.has(sha256)) continue
      const path = store.pathOf(sha256)
      try {
        const { mtimeMs } = await stat(path)
        if (nowMs() - mtimeMs < MAX_UNUSED_MS) continue
        await rm(path, { force: true })
        deps.log.info('removed an unused mask', { sha256 })
      } catch (error) {
        deps.log.warn('an unused mask cannot be removed', { sha256, reason: reasonOf(error) })
      }
    }
  }

  return {
    ...store,
    ensure,
    async upload(sha256, signal) {
      await deps.gateway.uploadMask(sha256, await openAsBlob(await ensure(sha256, signal)), signal)
    },
    removeUnused(kept) {
      removing = removing.then(() => removeUnused(kept))
      return removing
    },
  }
}
