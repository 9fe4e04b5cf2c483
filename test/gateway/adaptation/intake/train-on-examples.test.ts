import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import type { Deps } from '../../../../gateway/src/contracts/bindings.ts'
import { loadClassifier } from '../../../../gateway/src/adaptation/intake/classifier-store.ts'
import { trainOnExamples } from '../../../../gateway/src/adaptation/intake/train-on-examples.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findModel, type ModelRow } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { domains } from '../../../../gateway/src/storage/db/schema/domains.ts'
import { SimulatedNode, testDeps } from '../../support/doubles/simulated-node.ts'

const db = openDatabase(env.DB)

/**
 * Returns a reservoir with eight described texts, by the two methods that training calls: the real reservoirs of 201 domains
 * would take minutes. `find-domains.test.ts` trains on real ones.
 */
function describedReservoir(name: string) {
  const seed = Number(name.slice(1))
  const described = Array.from({ length: 8 }, (_, text) => ({
    text: `${name} and ${text}`,
    embedding: Array.from({ length: 8 }, (_value, d) => Math.sin(seed * (d + 1)) + 0.01 * Math.sin(text * d)),
  }))
  return {
    textsToDescribe: async () => ({ described: described.length, texts: [] }),
    listDescribed: async () => described,
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
  expect(await trainOnExamples(deps, model, { texts: 0 }, [model.baseSha256])).toBe(true)
  const stored = await loadClassifier(deps, model)
  expect(stored?.classifier.domains).toHaveLength(200)
  expect(stored?.classifier.domains).not.toContain('d0')
  expect(await trainOnExamples(deps, model, { texts: 0 }, [model.baseSha256])).toBe(false)
})
