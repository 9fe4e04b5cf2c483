import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { createContentStore, type ContentStore } from './content-store.ts'
import type { GatewayClient } from './gateway-client.ts'

/** Frozen datasets of the gateway, cached as `<home>/datasets/<sha256>.ndjson`: one `{"text": …}` a line. */
export type DatasetStore = Pick<ContentStore, 'ensure' | 'sweep'>

/** Composes the dataset store of a node. */
export function createDatasetStore(deps: {
  home: string
  gateway: Pick<GatewayClient, 'download'>
}): DatasetStore {
  return createContentStore({
    dir: join(deps.home, 'datasets'),
    extension: '.ndjson',
    fetch: (sha256, signal) => deps.gateway.download('datasets', sha256, signal),
    // Retryable: what the gateway keeps under a hash was right when it was put there.
    mismatch: (sha256, actual) =>
      new AppError(
        'no_node_available',
        `The dataset that the gateway sent for ${sha256} has the hash ${actual}: it was damaged on the way. Try again.`,
      ),
  })
}
