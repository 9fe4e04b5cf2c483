import { sha256 } from '@copal/shared/wire/signature.ts'
import { isCallsUsedUp } from '../../calls/call-budget.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { classifierKey } from '../../storage/artifacts/artifact-keys.ts'
import { claimFile } from '../../storage/artifacts/file-claims.ts'
import {
  findClassifier,
  forgetClassifiers,
  insertClassifier,
  type ClassifierRow,
} from '../../storage/db/queries/discovery-queries.ts'
import type { DomainClassifier } from '../discovery/classifier.ts'
import { decodeClassifier, encodeClassifier } from '../discovery/classifier-codec.ts'
import { storeLatest } from '../../runtime/bounded-map.ts'

type StoreDeps = Pick<Deps, 'db' | 'artifacts'>

/** A stored classifier and the model that it was trained for. */
export interface StoredClassifier {
  row: ClassifierRow
  /** SHA-256 of the dense weights whose embeddings it was trained on. */
  baseSha256: string
  classifier: DomainClassifier
}

/** Classifiers of an isolate, which may be several megabytes each. */
const MAX_CACHED = 4
/** Versions that are kept in R2 beside the newest, for isolates that are about to read them. */
const KEPT_VERSIONS = 2

/** Classifiers of the isolate by hash. They belong to no event, because what a hash names never changes and takes long to read. */
const cached = new Map<string, Omit<StoredClassifier, 'row'>>()

/**
 * Returns the newest classifier of a model; undefined if there is none, or if it was trained on embeddings of other weights
 * or cannot be read, so that it must be trained anew.
 */
export async function loadClassifier(
  deps: StoreDeps,
  model: { id: string; baseSha256: string },
): Promise<StoredClassifier | undefined> {
  const row = await findClassifier(deps.db, model.id)
  return row && openClassifier(deps, model, row)
}

/** Returns a version of a classifier, like {@link loadClassifier}. */
export async function openClassifier(
  { artifacts }: Pick<StoreDeps, 'artifacts'>,
  model: { baseSha256: string },
  row: ClassifierRow,
): Promise<StoredClassifier | undefined> {
  let stored = cached.get(row.sha256)
  if (!stored) {
    stored = await readClassifier(artifacts, row)
    if (!stored) return undefined
    storeLatest(cached, row.sha256, stored, MAX_CACHED)
  }
  return stored.baseSha256 === model.baseSha256 ? { row, ...stored } : undefined
}

async function readClassifier(
  artifacts: R2Bucket,
  row: ClassifierRow,
): Promise<Omit<StoredClassifier, 'row'> | undefined> {
  const object = await artifacts.get(classifierKey(row.sha256))
  try {
    if (!object) throw new Error('The object is missing in R2.')
    const bytes = new Uint8Array(await object.arrayBuffer())
    return { baseSha256: object.customMetadata?.['base'] ?? '', classifier: decodeClassifier(bytes) }
  } catch (error) {
    if (isCallsUsedUp(error)) throw error
    console.error(`Classifier ${row.version} of '${row.model}' will be trained anew:`, error)
    return undefined
  }
}

/** Stores a classifier as the next version of its model, and deletes old versions. */
export async function storeClassifier(
  deps: StoreDeps & Pick<Deps, 'nowMs'>,
  model: { id: string; baseSha256: string },
  classifier: DomainClassifier,
  texts: number,
): Promise<number> {
  // A cast instead of a copy, because it may be large; the encoder's buffer is never shared.
  const bytes = encodeClassifier(classifier) as Uint8Array<ArrayBuffer>
  const hash = await sha256(bytes)
  await claimFile(deps, classifierKey(hash))
  await deps.artifacts.put(classifierKey(hash), bytes, {
    sha256: hash,
    customMetadata: { base: model.baseSha256 },
  })
  for (;;) {
    const version = ((await findClassifier(deps.db, model.id))?.version ?? 0) + 1
    const domains = [...classifier.domains].sort()
    const row = { model: model.id, version, sha256: hash, domains, texts, createdAt: deps.nowMs() }
    if (!(await insertClassifier(deps.db, row))) continue
    const unused = await forgetClassifiers(deps.db, model.id, version - KEPT_VERSIONS)
    if (unused.length > 0) await deps.artifacts.delete(unused.map(classifierKey))
    return version
  }
}
