import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Backend } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { parseMethod, STEP_REVISIONS } from '../../../../gpu-node/src/pruning/methods/method-registry.ts'
import { openLabCache, type LabCache } from '../../../../gpu-node/lab/run/lab-cache.ts'
import { createFindings, maskKey, pairKey, type Findings } from '../../../../gpu-node/lab/run/findings.ts'
import type { MaskPlan } from '../../../../gpu-node/lab/plan/plan-runs.ts'
import { readResults } from '../../../../gpu-node/lab/results/results-file.ts'
import type { LabResults, LabRun, LabStage } from '../../../../gpu-node/lab/results/lab-results.ts'
import { createLabSteps, type LabSteps } from '../../../../gpu-node/lab/run/lab-steps.ts'
import type { DenseModel } from '../../../../gpu-node/src/model/master/dense-model.ts'
import { findLayerSensitivity } from '../../../../gpu-node/src/model/sensitivities/layer-sensitivity.ts'
import { findRowSensitivity } from '../../../../gpu-node/src/model/sensitivities/row-sensitivity.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

/** Results measured with an older copal: changing a cache key discards them, which must be deliberate. */
const COMMITTED = 'docs/results/smollm2-135m'

/** Hashes of the tokens of the evaluation windows, which results of that version do not contain. */
const WINDOWS: Readonly<Record<string, string>> = {
  code: '122b5d411228f7343404912ca7897d40688c14fcb1ef7cf89470233d1c2c66f4',
  mail: 'e773450ba6cfdc6e3c5cb230062ddf0bacbc9c324d575277d33e503d479cb5bc',
  news: 'eebf2653573a95f2cd4fdd040fc9855e089efbb27c6f05514a78028671ad3a3a',
  manual: '6d35a8cdf23253e9b52c24ef3d0aa751ddb6a30becf930ad71e24b3a47784168',
}

const findings = createFindings()
let dir: string
let results: LabResults
let cache: LabCache
let work: LabSteps
let recallInto: (findings: Findings, linearPatterns?: Record<string, string>) => Promise<LabSteps>

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'copal-keys-'))
  mkdirSync(join(dir, 'cache'))
  execFileSync('tar', ['-xzf', join(COMMITTED, 'cache.tar.gz'), '-C', join(dir, 'cache')])
  results = await readResults(COMMITTED)
  cache = await openLabCache(join(dir, 'cache'))
  const { baseSha256, layers } = results.model
  const counts = new Set(results.runs.map(({ samples }) => samples))
  const emptySequences = (sequences: number) => ({ tokens: new Int32Array(0), sequences, length: 0 })
  const config = {
    layers,
    hiddenSize: 576,
    intermediateSize: 1536,
    heads: 9,
    kvHeads: 3,
    headDim: 64,
  } as DenseModel['config']
  const model = {
    config,
    master: { baseSha256 },
    layerSensitivity: await findLayerSensitivity(dir, config, baseSha256),
    rowSensitivity: await findRowSensitivity(dir, config, baseSha256),
  } as DenseModel
  const deps = {
    model,
    domains: results.domains.map(({ name, calibration, evaluation }) => ({
      name,
      calibration: calibration && {
        ...calibration,
        sequences: new Map([...counts].map((samples) => [samples, emptySequences(samples)])),
      },
      evaluation: { path: name, sha256: evaluation.sha256, cut: { windows: [], sha256: WINDOWS[name]! } },
    })),
    child: { call: () => Promise.reject(new Error('nothing is to be done')), close: async () => undefined },
    backend: {} as Backend,
    cache,
    rates: await cache.rates.get([]),
    ranOn: { cpu: 'none', threads: 0 },
    saveRates: async () => undefined,
    signal: new AbortController().signal,
    nowMs: () => 0,
  }
  recallInto = async (into, linearPatterns = {}) => {
    const settings = { ...results.settings, linearPatterns }
    const recalling = await createLabSteps({ ...deps, settings, findings: into })
    await recalling.loadCached(results.runs.flatMap((run) => run.stages.map((stage) => planOf(run, stage))))
    return recalling
  }
  work = await recallInto(findings)
}, 120_000)

afterAll(() => rmSync(dir, { recursive: true, force: true }))

test('every mask and perplexity of the committed result is found in its cache', () => {
  for (const run of results.runs) {
    for (const stage of run.stages) {
      expect(findings.masks.get(maskKey(planOf(run, stage)))?.sha256).toBe(stage.maskSha256)
      expectEvaluations(stage.maskSha256, stage.evaluations)
    }
  }
  expectEvaluations(null, results.dense)
})

test('mask churn and calibration costs of the committed result are found in its cache', async () => {
  for (const { datasets, stages, matrices } of results.runs) {
    if (datasets !== 'accumulated') continue
    const after = (domains: string[]) =>
      stages.find((stage) => stage.domains.join() === domains.toSorted().join())!.maskSha256
    for (const { order, churn } of matrices) {
      for (const [stage, changed] of churn.entries()) {
        const [a, b] = [after(order.slice(0, stage + 1)), after(order.slice(0, stage + 2))]
        expect(await work.loadCachedChurn(maskOf(a), maskOf(b))).toBe(true)
        expect(findings.churns.get(pairKey(a, b))).toBe(changed)
      }
    }
  }
  for (const { domain, samples, tokens } of results.calibration)
    expect(findings.calibrations.get(pairKey(domain, samples))?.tokens).toBe(tokens)
})

test('raising the revision of a rule or refinement invalidates its masks and no others', async () => {
  const raised = parseMethod('wanda').rule
  raised.revision = 1
  STEP_REVISIONS.swaps = 1
  try {
    const found = createFindings()
    await recallInto(found)
    for (const run of results.runs) {
      const isChanged = run.method.split('+')[0] === 'wanda' || run.method.includes('+swaps')
      for (const stage of run.stages) expect(found.masks.has(maskKey(planOf(run, stage)))).toBe(!isChanged)
    }
  } finally {
    delete raised.revision
    STEP_REVISIONS.swaps = 0
  }
})

test('a pattern for a single linear invalidates all these masks', async () => {
  const found = createFindings()
  await recallInto(found, { 'model.layers.0.mlp.down_proj.weight': 'dense' })
  expect(found.masks.size).toBe(0)
  expectEvaluations(null, results.dense)
})

test('the rates of a machine are found in the cache', async () => {
  const empty = await openLabCache(temporaryDir())
  await empty.rates.put(['base', 'cpu', 2], { calibrateToken: 1, evaluateToken: 2, select: {} })
  const [name] = readdirSync(join(empty.masksDir, '..', 'rates'))
  expect(name).toBe('7384f5d61c5230e239ebbefa5d884d5d1e8831fbdfff11234878e17899276264.json')
})

function expectEvaluations(sha256: string | null, evaluations: LabResults['dense']): void {
  for (const [domain, evaluation] of Object.entries(evaluations))
    expect(findings.evaluations.get(pairKey(sha256, domain))).toMatchObject(evaluation)
}

function planOf({ method, pattern, scope, samples, datasets }: LabRun, { domains }: LabStage): MaskPlan {
  return {
    method,
    pattern,
    scope: pattern.includes(':') ? 'row' : scope,
    samples: datasets === 'none' ? 0 : samples,
    propagation: 'dense',
    domains,
  }
}

function maskOf(sha256: string) {
  return { sha256, bytes: 0, sparsity: 0, seconds: 0, layerErrors: null, created: '' }
}
