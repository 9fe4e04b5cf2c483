import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { LlamaConfig } from '../model/config/llama-config.ts'
import { maxMaskFileBytes } from '../model/mask-file/max-mask-file-bytes.ts'
import { removePartials } from '../platform/atomic-file.ts'
import { reasonOf, type Log } from '../platform/log.ts'
import { PRIVATE } from '../platform/make-folder.ts'
import type { ProcessLock } from '../platform/process-lock.ts'
import { makeWritableFolder } from '../platform/writable-folder.ts'
import { createDatasetStore, type DatasetStore } from '../serving/control/dataset-store.ts'
import type { GatewayClient } from '../serving/control/gateway-client.ts'
import { takeNodeLock } from '../serving/control/node-lock.ts'
import { openNodeState, type NodeStateFile } from '../serving/control/node-state.ts'
import { createMaskStore, type MaskStore } from '../serving/masks/mask-store.ts'
import type { NodeSettings } from '../settings.ts'

/**
 * Creates the folders of a node and takes the lock of its home, so that no other node uses it.
 *
 * @throws AppError `conflict` when another node has it; `invalid_request` when a folder cannot be written
 */
export function lockHome({ home, cacheDir }: Pick<NodeSettings, 'home' | 'cacheDir'>): ProcessLock {
  makeWritableFolder(home, 'COPAL_HOME', PRIVATE)
  makeWritableFolder(cacheDir, 'COPAL_CACHE')
  return takeNodeLock(home)
}

/** The state that a node keeps in its home over restarts, and the files that it fetches into it. */
export interface NodeFiles {
  readonly state: NodeStateFile
  readonly masks: MaskStore
  readonly datasets: DatasetStore
  /** Scratch space of weight sets that are being loaded. */
  readonly workDir: string
  /** Removes the masks that were not used for a day, except the desired ones. */
  removeUnusedMasks(): Promise<void>
}

/**
 * Opens the files of a locked home, and removes what a killed process left there: half-written files, datasets and scratch.
 *
 * @param config the model's, which limits the size of mask files
 * @throws AppError `internal_error` when the state file cannot be read
 */
export async function openNodeFiles(
  home: string,
  config: LlamaConfig,
  gateway: GatewayClient,
  log: Log,
): Promise<NodeFiles> {
  await Promise.all([home, join(home, 'jobs')].map(removePartials))
  const state = await openNodeState({ home, log })
  const masks = createMaskStore({ home, maxBytes: maxMaskFileBytes(config), gateway, log })
  const datasets = createDatasetStore({ home, gateway })
  const workDir = join(home, 'work')
  const removeUnusedMasks = () => {
    const { active, previous, trials = [], own = [] } = state.current().desired
    return masks.removeUnused([active, previous, ...trials, ...own].map((mask) => mask?.sha256 ?? null))
  }
  await Promise.all([masks.sweep(), datasets.clear(), clearScratch(workDir, log)])
  await removeUnusedMasks()
  return { state, masks, datasets, workDir, removeUnusedMasks }
}

/** Removes all scratch. Only the holder of the lock writes it, so it is of processes that have ended. */
async function clearScratch(workDir: string, log: Log): Promise<void> {
  for (const name of await readdir(workDir).catch(() => [])) {
    const path = join(workDir, name)
    await rm(path, { recursive: true, force: true }).catch((error: unknown) =>
      log.warn('scratch of an earlier start cannot be removed', { path, reason: reasonOf(error) }),
    )
  }
}
