import { env } from 'cloudflare:workers'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { beforeEach, expect, test } from 'vitest'
import type { Deps } from '../../../../gateway/src/contracts/bindings.ts'
import { encodeClassifier } from '../../../../gateway/src/adaptation/discovery/classifier-codec.ts'
import { trainClassifier } from '../../../../gateway/src/adaptation/discovery/train-classifier.ts'
import {
  loadClassifier,
  storeClassifier,
} from '../../../../gateway/src/adaptation/intake/classifier-store.ts'
import { trainOnExamples } from '../../../../gateway/src/adaptation/intake/train-on-examples.ts'
import { refreshCounts } from '../../../../gateway/src/adaptation/sampling/refresh-counts.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findModel, type ModelRow } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { domains } from '../../../../gateway/src/storage/db/schema/domains.ts'
import { classifierKey } from '../../../../gateway/src/storage/artifacts/artifact-keys.ts'
import { insertClassifier } from '../../../../gateway/src/storage/db/queries/discovery-queries.ts'
import { startDescribingNode } from '../../support/doubles/describing-node.ts'
import { SimulatedNode, testDeps } from '../../support/doubles/simulated-node.ts'

const db = openDatabase(env.DB)
/** Enough for all of the background. */
const PLENTY = 1000
/** Dimensions of a describing node's embeddings. */
const DESCRIBED_SIZE = 24
let nextDomain = 1

beforeEach(() => db.delete(domains))

/**
 * Returns a reservoir with eight described texts, by the methods that training and counting call: the real reservoirs of 201 domains
 * would take minutes. `find-domains.test.ts` trains on real ones.
 */
function describedReservoir(name: string, size = 8) {
  const seed = Number(name.slice(1))
  const described = Array.from({ length: 8 }, (_, text) => ({
    text: `${name} and ${text}`,
    embedding: Array.from(
      { length: size },
      (_value, d) => Math.sin(seed * (d + 1)) + 0.01 * Math.sin(text * d),
    ),
  }))
  return {
    textsToDescribe: async () => ({ described: described.length, texts: [] }),
    listDescribed: async () => described,
    counts: async () => ({
      samples: 8,
      characters: 80,
      seen: 8,
      holdoutSamples: 0,
      holdoutCharacters: 0,
      reviewSamples: 0,
      lastSampleAtMs: null,
      countedAtMs: Date.now(),
      models: {},
      examples: { '': { described: described.length, missing: 0 } },
    }),
  } as unknown as ReturnType<Deps['reservoir']>
}

test('of more domains than a stored classifier can have, the oldest are learned, and once', async () => {
  await new SimulatedNode('many-1', 'many').beat()
  const model = (await findModel(db, 'many')) as ModelRow
  const names = Array.from({ length: 201 }, (_, index) => `d${index}`)
  for (let from = 0; from < names.length; from += 20)
    await db
      .insert(domains)
      .values(names.slice(from, from + 20).map((name, at) => ({ name, createdAt: 1_000 - from - at })))
  const deps = testDeps({ reservoir: describedReservoir })
  // A run counts 200 at most.
  for (let run = 0; run < 2; run++) await refreshCounts(deps)
  expect(await trainOnExamples(deps, model, { texts: 0 }, [model.baseSha256])).toBe(true)
  const stored = await loadClassifier(deps, model)
  expect(stored?.classifier.domains).toHaveLength(200)
  expect(stored?.classifier.domains).not.toContain('d0')
  expect(await trainOnExamples(deps, model, { texts: 0 }, [model.baseSha256])).toBe(false)
})

/** Two domains with described texts, and a model that a describing node serves, of weights of its own. */
async function seedTwoDomains(modelId: string) {
  const weights = await sha256(new Uint8Array(new TextEncoder().encode(modelId)))
  const node = await startDescribingNode(modelId, weights)
  const model = (await findModel(db, modelId)) as ModelRow
  // Equal examples would give equal bytes, which are one object.
  const names = [`d${nextDomain++}`, `d${nextDomain++}`]
  await db.insert(domains).values(names.map((name) => ({ name, createdAt: 1 })))
  const deps = testDeps({
    reservoir: (name) => describedReservoir(name, DESCRIBED_SIZE),
    nodeFetch: (url, init) => node.nodeFetch(url, init),
  })
  const train = (texts: number) => trainOnExamples(deps, model, { texts }, [model.baseSha256])
  const background = async () => (await loadClassifier(deps, model))?.classifier.background
  return { node, model, names, deps, train, background }
}

test('without a node the classifier is trained without the background, and again when a node has described it', async () => {
  const { node, train, background } = await seedTwoDomains('away')
  node.isAway = true
  expect(await train(PLENTY)).toBe(true)
  expect(await background()).toBeNull()
  expect(await train(PLENTY)).toBe(false)
  node.isAway = false
  await node.heartbeat()
  expect(await train(PLENTY)).toBe(true)
  expect(await background()).not.toBeNull()
  node.calls = []
  expect(await train(PLENTY)).toBe(false)
  expect(node.calls).toEqual([])
})

test('the background is described in as many runs as the budget asks for, each text once', async () => {
  const { node, train, background } = await seedTwoDomains('busy')
  expect(await train(50)).toBe(true)
  expect(await background()).toBeNull()
  expect(await train(50)).toBe(false)
  expect(await train(50)).toBe(true)
  expect(await background()).not.toBeNull()
  const texts = node.calls.flat()
  expect(new Set(texts).size).toBe(texts.length)
  expect(texts.length).toBeGreaterThan(100)
})

test('a classifier that an earlier version stored sorts until it is trained against the background', async () => {
  const { model, names, deps, train, background } = await seedTwoDomains('older')
  const examples = names.flatMap((domain) =>
    Array.from({ length: 8 }, (_, text) => ({
      domain,
      text: `${domain} and ${text}`,
      embedding: Array.from({ length: DESCRIBED_SIZE }, (_value, d) =>
        Math.sin(Number(domain.slice(1)) * (d + 1)),
      ),
    })),
  )
  const { background: _, ...json } = JSON.parse(
    new TextDecoder().decode(encodeClassifier(trainClassifier(examples))),
  ) as Record<string, unknown>
  const bytes = new Uint8Array(new TextEncoder().encode(JSON.stringify({ ...json, version: 3 })))
  const hash = await sha256(bytes)
  await env.ARTIFACTS.put(classifierKey(hash), bytes, { customMetadata: { base: model.baseSha256 } })
  const row = { model: model.id, version: 1, sha256: hash, domains: names, texts: 16, createdAt: 0 }
  await insertClassifier(db, row)
  expect((await loadClassifier(deps, model))?.classifier.domains).toEqual(names)
  expect(await train(0)).toBe(false)
  expect(await train(PLENTY)).toBe(true)
  expect(await background()).not.toBeNull()
})

test('a classifier that was trained against other background texts is trained anew', async () => {
  const { model, deps, train, background } = await seedTwoDomains('newer')
  await train(PLENTY)
  const stored = await loadClassifier(deps, model)
  const current = stored?.classifier.background
  if (!stored || !current) throw new Error('There is no classifier with a background.')
  const other = { ...stored.classifier, background: { ...current, version: 'of-an-older-version' } }
  await storeClassifier(deps, model, other, stored.row.texts)
  expect(await train(PLENTY)).toBe(true)
  expect(await background()).toEqual(current)
})

test('embeddings of other texts, and under weights that no model has, are deleted', async () => {
  const { model, train } = await seedTwoDomains('fresh')
  for (const base of [model.baseSha256, 'd'.repeat(64)])
    await env.ARTIFACTS.put(`backgrounds/${base}-older`, 'x')
  await train(PLENTY)
  const { objects } = await env.ARTIFACTS.list({ prefix: 'backgrounds/' })
  expect(objects).toHaveLength(1)
  expect(objects[0]?.key).toContain(model.baseSha256)
})
