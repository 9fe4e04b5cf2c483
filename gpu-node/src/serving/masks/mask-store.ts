import { openAsBlob } from 'node:fs'
import { readdir, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { createContentStore, type ContentStore } from '../../platform/content-store.ts'
import { reasonOf, type Log } from '../../platform/log.ts'

/** Longer than any job needs a mask that it has asked for. */
const UNUSED_MS = 24 * 3_600_000

/** Mask files of this node: `<home>/masks/<sha256>.safetensors`, shared with the fleet through the gateway. */
export interface MaskStore extends ContentStore {
  /**
   * Gives the gateway a mask that this node holds; repeating it is harmless.
   *
   * @throws AppError retryable when the gateway is away
   */
  upload(sha256: string, signal?: AbortSignal): Promise<void>
  /**
   * Removes the masks that nobody has asked for since a day, but for those in `kept` (null is dense). All is in
   * the gateway: one that is wanted again is fetched again. What cannot be removed is logged.
   */
  prune(kept: readonly (string | null)[]): Promise<void>
}

/** Fetches masks from the gateway and gives it new ones; see `GatewayClient`. */
export interface MaskTransfer {
  download(kind: 'masks', sha256: string, signal?: AbortSignal): Promise<AsyncIterable<Uint8Array>>
  uploadMask(sha256: string, file: Blob, signal?: AbortSignal): Promise<void>
}

/** Composes the mask store of a node. */
export function createMaskStore(deps: {
  home: string
  gateway: MaskTransfer
  log: Log
  nowMs?: () => number
}): MaskStore {
  const nowMs = deps.nowMs ?? Date.now
  const store = createContentStore({
    dir: join(deps.home, 'masks'),
    extension: '.safetensors',
    fetch: (sha256, signal) => deps.gateway.download('masks', sha256, signal),
    mismatch: (sha256, actual) =>
      new AppError(
        'mask_invalid',
        `The mask file that the gateway sent for ${sha256} has the hash ${actual}: it was damaged. It is fetched again later.`,
      ),
  })
  /** Masks that are being asked for, and by how many: what is being verified must not go. */
  const asked = new Map<string, number>()
  let pruning = Promise.resolve()

  async function ensure(sha256: string, signal?: AbortSignal): Promise<string> {
    asked.set(sha256, (asked.get(sha256) ?? 0) + 1)
    try {
      await pruning
      const path = await store.ensure(sha256, signal)
      const now = new Date(nowMs())
      // One that cannot be marked only goes earlier.
      await utimes(path, now, now).catch(() => undefined)
      return path
    } finally {
      const others = (asked.get(sha256) ?? 1) - 1
      if (others > 0) asked.set(sha256, others)
      else asked.delete(sha256)
    }
  }

  async function removeUnused(kept: readonly (string | null)[]): Promise<void> {
    const names = await readdir(store.dir).catch(() => [])
    for (const name of names) {
      const sha256 = /^([0-9a-f]{64})\.safetensors$/.exec(name)?.[1]
      // Whoever asks from here on waits until all is removed.
      if (sha256 === undefined || kept.includes(sha256) || asked.has(sha256)) continue
      const path = store.pathOf(sha256)
      try {
        const { mtimeMs } = await stat(path)
        if (nowMs() - mtimeMs < UNUSED_MS) continue
        await rm(path, { force: true })
        deps.log.info('an unused mask is removed', { sha256 })
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
    prune(kept) {
      pruning = pruning.then(() => removeUnused(kept))
      return pruning
    },
  }
}
