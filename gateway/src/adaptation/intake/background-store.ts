import type { Deps } from '../../contracts/bindings.ts'
import { describeTexts, TEXTS_PER_CALL } from '../../fleet/client/describe-texts.ts'
import { BACKGROUND_PREFIX, backgroundKey } from '../../storage/artifacts/artifact-keys.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { Background } from '../discovery/classifier.ts'
import backgroundTexts from '../discovery/background-texts.json' with { type: 'json' }
import { textHash } from '../sampling/text-hash.ts'
import type { DescribeBudget } from './describe-stored.ts'

type BackgroundDeps = Pick<Deps, 'artifacts' | 'fleet' | 'nodeSecrets' | 'nodeFetch' | 'nowMs'>

const TEXTS = backgroundTexts.map(({ text }) => text)
const BYTES_PER_VALUE = Float32Array.BYTES_PER_ELEMENT

/** The version once it is known. It belongs to the module and not to an event, because the texts are part of the program. */
let knownVersion: string | undefined

/** Returns the version of the background texts, a hash: it changes with any of them. An isolate computes it once. */
export async function backgroundVersion(): Promise<string> {
  knownVersion ??= await textHash(JSON.stringify(TEXTS))
  return knownVersion
}

/**
 * Returns the background texts with their embeddings under the dense weights of a model, which are stored. Has a node describe
 * those that are missing, as far as the budget goes.
 *
 * @param bases the weights of all models; embeddings under others are deleted
 * @returns undefined while some are missing
 * @throws AppError `no_node_available`, or another error of the call
 */
export async function loadBackground(
  deps: BackgroundDeps,
  { id, baseSha256 }: Pick<ModelRow, 'id' | 'baseSha256'>,
  budget: DescribeBudget,
  bases: readonly string[],
): Promise<Background | undefined> {
  const version = await backgroundVersion()
  const key = backgroundKey(baseSha256, version)
  let embeddings = await readEmbeddings(deps.artifacts, key)
  if (embeddings.length === 0) await deleteOthers(deps.artifacts, bases, version)
  while (embeddings.length < TEXTS.length && budget.texts > 0) {
    const count = Math.min(TEXTS_PER_CALL, TEXTS.length - embeddings.length, budget.texts)
    const part = TEXTS.slice(embeddings.length, embeddings.length + count)
    budget.texts -= count
    const described = await describeTexts(deps, id, part)
    // As they are stored, so that the next training gives the same classifier.
    embeddings = [...embeddings, ...described.map(({ embedding }) => embedding.map(Math.fround))]
    // After each call, so that the next run continues here if a later one fails.
    await writeEmbeddings(deps.artifacts, key, embeddings)
  }
  if (embeddings.length < TEXTS.length) return undefined
  return { version, texts: TEXTS.map((text, index) => ({ text, embedding: embeddings[index] ?? [] })) }
}

/** Returns the stored embeddings, of the first texts; none if they cannot be read. */
async function readEmbeddings(artifacts: R2Bucket, key: string): Promise<number[][]> {
  const object = await artifacts.get(key)
  const size = Number(object?.customMetadata?.['dimensions'])
  if (!object || !(size > 0)) return []
  const bytes = await object.arrayBuffer()
  if (bytes.byteLength % (size * BYTES_PER_VALUE) !== 0) return []
  const values = new Float32Array(bytes)
  return Array.from({ length: values.length / size }, (_, index) => [
    ...values.subarray(index * size, (index + 1) * size),
  ])
}

/** Stores embeddings of one size, as f32 `[texts, dimensions]` row-major. */
async function writeEmbeddings(
  artifacts: R2Bucket,
  key: string,
  embeddings: readonly number[][],
): Promise<void> {
  const dimensions = embeddings[0]?.length ?? 0
  await artifacts.put(key, Float32Array.from(embeddings.flat()), {
    customMetadata: { dimensions: String(dimensions) },
  })
}

/** Deletes the embeddings of other versions, and those under weights that no model has. */
async function deleteOthers(artifacts: R2Bucket, bases: readonly string[], version: string): Promise<void> {
  const kept = new Set(bases.map((base) => backgroundKey(base, version)))
  const { objects } = await artifacts.list({ prefix: BACKGROUND_PREFIX })
  const unused = objects.flatMap(({ key }) => (kept.has(key) ? [] : key))
  if (unused.length > 0) await artifacts.delete(unused)
}
