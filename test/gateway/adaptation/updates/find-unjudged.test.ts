import { env } from 'cloudflare:workers'
import type { EvaluateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import { expect, test } from 'vitest'
import { findUnjudged } from '../../../../gateway/src/adaptation/updates/unjudged-domains.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { putReservoirCounts } from '../../../../gateway/src/storage/db/queries/reservoir-count-queries.ts'
import { testDeps } from '../../support/doubles/simulated-node.ts'

const db = openDatabase(env.DB)

test('domains without a holdout are found without their reservoirs, which may not answer', async () => {
  await ensureDomains(db, ['counted', 'uncounted'], 1)
  const counts = {
    samples: 1,
    characters: 100,
    seen: 1,
    holdoutSamples: 1,
    holdoutCharacters: 4_000,
    reviewSamples: 0,
    lastSampleAtMs: 1,
    countedAtMs: 1,
    models: {},
    examples: {},
  }
  await putReservoirCounts(db, new Map([['counted', counts]]))
  const job: EvaluateJob = {
    kind: 'evaluate',
    id: 'job_unjudged',
    model: 'unjudged',
    mask: null,
    holdouts: [],
    windowTokens: 512,
  }
  const evaluation = { id: job.id, updateId: 'upd_unjudged', createdAt: 10, payload: job }
  const deps = testDeps({
    reservoir: () => {
      throw new Error('The reservoir does not answer.')
    },
  })
  const { waiting } = await findUnjudged(deps, evaluation, 512)
  expect(waiting).toEqual([
    { name: 'counted', tokens: expect.toSatisfy((tokens: number) => tokens > 500) as unknown },
    { name: 'uncounted', tokens: undefined },
  ])
})
