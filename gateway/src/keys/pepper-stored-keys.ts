import { listUnpepperedKeys, pepperKey } from '../storage/db/queries/key-queries.ts'
import type { Deps } from '../contracts/bindings.ts'
import { pepperedHash } from './key-secret.ts'

/**
 * Replaces the plain digests of keys that are older than the pepper by peppered hashes. The keys stay valid throughout,
 * because a key is found by either hash.
 */
export async function pepperStoredKeys(deps: Pick<Deps, 'calls' | 'db' | 'keyPepper'>): Promise<void> {
  for (const { id, hash } of await listUnpepperedKeys(deps.db)) {
    // The rest has its turn in five minutes.
    if (deps.calls.left === 0) return
    await pepperKey(deps.db, { id, hash, peppered: await pepperedHash(deps.keyPepper, hash) })
  }
}
