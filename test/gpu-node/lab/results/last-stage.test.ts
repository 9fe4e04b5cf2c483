import { expect, test } from 'vitest'
import { evaluationAfterLastStage, lastStages } from '../../../../gpu-node/lab/results/last-stage.ts'
import type { LabRun } from '../../../../gpu-node/lab/results/lab-results.ts'
import { generatedResults } from '../../../support/pruning/lab-results.ts'

const results = generatedResults()
const runOf = (method: string, purpose: LabRun['purpose'] = 'main'): LabRun => {
  const run = results.runs.find((candidate) => candidate.method === method && candidate.purpose === purpose)
  if (!run) throw new Error(`no ${method}`)
  return run
}

test('an accumulating method ends with everything accumulated', () => {
  const run = runOf('continual-wanda')
  const [last, ...others] = lastStages(run, results)
  expect(others).toEqual([])
  expect(last?.domains).toEqual(['code', 'encyclopedia', 'newswire'])
  expect(evaluationAfterLastStage(run, 'mail', results)).toBe(last?.evaluations['mail'])
})

test('a restarted method ends with each dataset that came last; windows are means over them', () => {
  const run = runOf('wanda')
  const stages = lastStages(run, results)
  expect(stages.map(({ domains }) => domains)).toEqual([['code'], ['newswire'], ['encyclopedia']])
  const windows = stages.map((stage) => stage.evaluations['code']?.windowNll[5] ?? Number.NaN)
  const after = evaluationAfterLastStage(run, 'code', results)
  expect(after?.windowNll[5]).toBeCloseTo((windows[0]! + windows[1]! + windows[2]!) / 3, 12)
  const perplexities = stages.map((stage) => stage.evaluations['code']?.perplexity ?? Number.NaN)
  expect(after?.perplexity).toBeCloseTo(
    Math.cbrt(perplexities.reduce((product, value) => product * value)),
    9,
  )
})

test('only datasets that came last in a permutation that was run count', () => {
  const run = runOf('wanda')
  const matrices = run.matrices.filter(({ order }) => order.at(-1) === 'code')
  expect(lastStages({ ...run, matrices }, results).map(({ domains }) => domains)).toEqual([['code']])
})

test('a sweep has no permutation, so each calibrated domain may be the last', () => {
  expect(lastStages(runOf('wanda', 'sparsity-sweep'), results)).toHaveLength(3)
})

test('with pruned propagation the order counts; windows are means over the last stages of all orders that were run', () => {
  const ordered = { ...results, settings: { ...results.settings, propagation: 'pruned' as const } }
  const played = runOf('continual-wanda')
  const matrices = played.matrices.slice(0, 2)
  const stages = matrices.map(({ order }, index) => {
    const stage = structuredClone(played.stages.find(({ domains }) => domains.length === order.length)!)
    stage.evaluations['mail']!.nllMean += index
    return { ...stage, domains: order }
  })
  const run = { ...played, matrices, stages: stages.toReversed() }
  expect(lastStages(run, ordered).map(({ domains }) => domains)).toEqual(matrices.map(({ order }) => order))
  const [first, second] = stages.map(({ evaluations }) => evaluations['mail']!.nllMean)
  expect(evaluationAfterLastStage(run, 'mail', ordered)?.nllMean).toBeCloseTo((first! + second!) / 2, 12)
  expect(lastStages({ ...run, stages: stages.slice(1) }, ordered)).toEqual([])
})

test('a last stage that is still to be run has no evaluation', () => {
  const accumulating = runOf('continual-wanda')
  const unfinished = { ...accumulating, stages: accumulating.stages.slice(0, -1) }
  expect(lastStages(unfinished, results)).toEqual([])
  expect(evaluationAfterLastStage(unfinished, 'code', results)).toBeNull()
  const restarted = runOf('wanda', 'sparsity-sweep')
  expect(
    evaluationAfterLastStage({ ...restarted, stages: restarted.stages.slice(1) }, 'code', results),
  ).toBeNull()
})

test('a last stage that was not evaluated on a domain has no evaluation for it', () => {
  const run = structuredClone(runOf('wanda'))
  delete run.stages[0]?.evaluations['mail']
  expect(evaluationAfterLastStage(run, 'mail', results)).toBeNull()
  expect(evaluationAfterLastStage(run, 'code', results)).not.toBeNull()
})
